package procedure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Names and versions of the recorded forms. docs/journal.md specifies them.
const (
	planFormat    = "tritonops-plan"
	journalFormat = "tritonops-journal"
	formatVersion = 1

	planName     = "plan.json"
	journalName  = "journal.jsonl"
	artifactsDir = "artifacts"
)

// maxPlan bounds plan.json in bytes.
const maxPlan = 16 << 20

// ErrDamaged is wrapped by every error about a recorded run that cannot be
// trusted. Nothing is ever repaired in passing.
var ErrDamaged = errors.New("damaged")

// By says who did something to a run.
type By struct {
	Who  string `json:"who,omitempty"`  // user and host, as the program was told
	PID  int    `json:"pid"`            // process
	Tool string `json:"tool,omitempty"` // version of the program
}

// planFile is plan.json.
type planFile struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	By      By        `json:"by"`
	Digest  string    `json:"digest"`
	Plan    document  `json:"plan"`
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{6,32}$`)

// readPlanFile parses plan.json. A newer version is refused by its number, all
// other differences as damage.
func readPlanFile(b []byte) (*planFile, error) {
	if len(b) > maxPlan {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrDamaged, len(b), maxPlan)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: not JSON: %w", ErrDamaged, err)
	}
	if head.Format != planFormat {
		return nil, fmt.Errorf("%w: format %q, want %q", ErrDamaged, head.Format, planFormat)
	}
	if err := checkVersion(head.Version); err != nil {
		return nil, err
	}
	var f planFile
	if err := strict(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !idPattern.MatchString(f.ID) {
		return nil, fmt.Errorf("%w: run id %q", ErrDamaged, f.ID)
	}
	if err := f.Plan.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if d := f.Plan.digest(); d != f.Digest {
		return nil, fmt.Errorf("%w: digest is %s, recorded as %s", ErrDamaged, d, f.Digest)
	}
	return &f, nil
}

// checkVersion refuses formats of a later program by name, since they are not
// damage: another program can read them.
func checkVersion(v int) error {
	switch {
	case v > formatVersion:
		return fail.New(fail.Refused, "format version %d: written by a newer tritonops; this one reads up to version %d", v, formatVersion)
	case v < 1:
		return fmt.Errorf("%w: format version %d", ErrDamaged, v)
	}
	return nil
}

// strict decodes exactly one JSON value without unknown fields.
func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON value")
	}
	return nil
}

// loadPlan reads the plan of the run in dir, whose base name is the run's id.
func loadPlan(dir string) (*planFile, error) {
	path := filepath.Join(dir, planName)
	b, err := readBounded(path, maxPlan)
	if err != nil {
		return nil, err
	}
	f, err := readPlanFile(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.ID != filepath.Base(dir) {
		return nil, fmt.Errorf("%s: %w: holds run %s", path, ErrDamaged, f.ID)
	}
	return f, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: missing", path, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrDamaged, limit)
	}
	return b, nil
}

// create makes the directory of a new run. It appears under its id whole, with
// plan and journal header, or not at all. Its time is after that of the target's
// newest run, whatever the clock says: undoing goes by their order.
func (e *Engine) create(d document, newest time.Time) (*planFile, error) {
	id, err := e.freshID()
	if err != nil {
		return nil, err
	}
	created := e.now()
	if !created.After(newest) {
		created = newest.Add(time.Millisecond)
	}
	f := &planFile{
		Format: planFormat, Version: formatVersion, ID: id, Created: created, By: e.by(), Digest: d.digest(), Plan: d,
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(Record{
		Event: EventCreated, At: f.Created, By: &f.By,
		Format: journalFormat, Version: formatVersion, Run: id, Plan: f.Digest,
	})
	if err != nil {
		return nil, err
	}
	tmp := filepath.Join(e.Dir, newPrefix+targetHash(d.Target)+"-"+id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	err = durable.WriteFile(filepath.Join(tmp, planName), append(b, '\n'), 0o600)
	if err == nil {
		err = durable.WriteFile(filepath.Join(tmp, journalName), append(header, '\n'), 0o600)
	}
	if err == nil {
		err = durable.Rename(tmp, e.path(id))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	return f, nil
}

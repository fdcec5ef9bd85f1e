package procedure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// EventName names a journal record.
type EventName string

// The events of a run. The first is the header; the six of a step carry its
// name; the others are about the run.
const (
	EventCreated EventName = "created"

	EventStarted     EventName = "started"
	EventSucceeded   EventName = "succeeded"
	EventFailed      EventName = "failed"
	EventUndoStarted EventName = "undo_started"
	EventUndone      EventName = "undone"
	EventUndoFailed  EventName = "undo_failed"

	EventArtifact    EventName = "artifact"    // a step kept a file in the run's directory
	EventResumed     EventName = "resumed"     // another process goes on, forward
	EventUndoing     EventName = "undoing"     // a process goes on, backward from now on
	EventInterrupted EventName = "interrupted" // cancelled; a note, changes no state
	EventStopped     EventName = "stopped"     // a step could not be examined; a note
	EventEnded       EventName = "ended"
)

// Record is one line of the journal.
type Record struct {
	Seq   int       `json:"seq"`
	At    time.Time `json:"at"`
	Event EventName `json:"event"`
	Step  string    `json:"step,omitempty"`

	Output    json.RawMessage `json:"output,omitempty"`    // succeeded
	Already   bool            `json:"already,omitempty"`   // succeeded: was so before this run began the step
	Unchanged bool            `json:"unchanged,omitempty"` // failed: the step promises that it changed nothing
	Error     string          `json:"error,omitempty"`     // failed, undo_failed, interrupted, stopped; redacted
	Artifact  *ArtifactInfo   `json:"artifact,omitempty"`
	End       State           `json:"end,omitempty"` // ended
	By        *By             `json:"by,omitempty"`  // created, resumed, undoing, ended by abandon

	// Header only.
	Format  string `json:"format,omitempty"`
	Version int    `json:"version,omitempty"`
	Run     string `json:"run,omitempty"`
	Plan    string `json:"plan,omitempty"` // digest of the plan
}

// ArtifactInfo names a file that a step kept.
type ArtifactInfo struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex; also the file's name
	Size   int64  `json:"size"`   // bytes
}

const (
	maxJournal = 64 << 20 // bytes of a journal
	maxOutput  = 1 << 20  // bytes of a step's output
	maxError   = 8 << 10  // bytes of an error text
)

// readJournal folds a journal over its plan. good is the length up to which it
// holds whole lines: what follows is a line cut short by a crash, whose event was
// never acknowledged. Everything else that is not as specified is ErrDamaged.
func readJournal(b []byte, p *planFile) (s *state, good int64, err error) {
	if len(b) > maxJournal {
		return nil, 0, fmt.Errorf("%w: %d bytes, more than %d", ErrDamaged, len(b), maxJournal)
	}
	s = newState(p)
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(b[good:], []byte("\n"))
		if !whole {
			break
		}
		if n == 1 {
			if err := checkHeaderVersion(line); err != nil {
				return nil, 0, err
			}
		}
		var r Record
		if err := strict(line, &r); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w: %w", n, ErrDamaged, err)
		}
		if err := s.apply(r); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w: %w", n, ErrDamaged, err)
		}
		good = int64(len(b) - len(rest))
	}
	if s.next == 0 {
		return nil, 0, fmt.Errorf("%w: no header", ErrDamaged)
	}
	return s, good, nil
}

// checkHeaderVersion looks at nothing but the version, since a newer header may
// have fields this program does not know.
func checkHeaderVersion(line []byte) error {
	var h struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if json.Unmarshal(line, &h) != nil || h.Format != journalFormat {
		return nil // the strict reader has the better error
	}
	return checkVersion(h.Version)
}

// loadJournal reads the journal of the run in dir without changing it.
func loadJournal(dir string, p *planFile) (*state, int64, error) {
	path := filepath.Join(dir, journalName)
	b, err := readBounded(path, maxJournal)
	if err != nil {
		return nil, 0, err
	}
	s, good, err := readJournal(b, p)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return s, good, nil
}

// journal is an open journal together with the state it adds up to.
type journal struct {
	f    *os.File
	size int64 // bytes acknowledged
	now  func() time.Time
	*state
}

// openJournal opens the journal for appending. The caller holds the target's
// lock. A torn last line is cut off, durably, before anything is appended.
func (e *Engine) openJournal(p *planFile) (*journal, error) {
	dir := e.path(p.ID)
	s, good, err := loadJournal(dir, p)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, journalName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f, size: good, now: e.now, state: s}
	if err := j.cut(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), joinClose(err, f))
	}
	return j, nil
}

// cut takes the file back to what was acknowledged.
func (j *journal) cut() error {
	fi, err := j.f.Stat()
	if err != nil || fi.Size() == j.size {
		return err
	}
	if err := j.f.Truncate(j.size); err != nil {
		return err
	}
	return j.f.Sync()
}

// write appends one record, synced. A record that would be illegal is refused
// before it is written; one that could not be written whole is taken back.
func (j *journal) write(r Record) error {
	r.Seq, r.At = j.next, j.now()
	if len(r.Error) > maxError {
		r.Error = r.Error[:maxError] + "..."
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if j.size+int64(len(b)) >= maxJournal {
		return fmt.Errorf("%s: more than %d bytes", j.f.Name(), maxJournal)
	}
	trial := j.state.clone()
	if err := trial.apply(r); err != nil {
		return fmt.Errorf("%s: illegal event: %w", j.f.Name(), err)
	}
	if err := durable.Append(j.f, b); err != nil {
		err = fmt.Errorf("%s: journal not written: %w", j.f.Name(), err)
		if cut := j.cut(); cut != nil {
			return fmt.Errorf("%w (and not taken back: %w)", err, cut)
		}
		return err
	}
	j.size += int64(len(b)) + 1
	j.state = trial
	return nil
}

func joinClose(err error, f *os.File) error {
	f.Close()
	return err
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// Progress receives what long work does. All methods are safe for concurrent
// use. A total of 0 is unknown.
type Progress interface {
	Phase(name string, total int64, unit string)
	Add(n int64)
	Note(text string)
}

type noProgress struct{}

func (noProgress) Phase(string, int64, string) {}
func (noProgress) Add(int64)                   {}
func (noProgress) Note(string)                 {}

// Limits of how much a run may take away without being asked for.
const (
	// DefaultMaxDelete is the share of the stored manifests, or of the stored image
	// files, that one run may delete.
	DefaultMaxDelete = 0.10
	// baseEvery is how many records may follow the newest base: what a restore has to
	// read beside it.
	baseEvery = 32
	// VerifyEvery is how often a run compares the mirror with the log.
	VerifyEvery = 24 * time.Hour
)

// Runner makes backups of one instance.
type Runner struct {
	Store    store.Store
	Instance *instance.Instance
	StateDir string // cache, lock and spool; made when missing
	Writer   Writer
	Epoch    uint64 // of the primary lock, 0 without an agent

	MaxDelete float64 // share, DefaultMaxDelete when 0, negative: nothing at all
	// AllowDelete is asked when a run would take away more than MaxDelete. nil
	// refuses.
	AllowDelete func(ctx context.Context, d Deletion) (bool, error)
	Parallel    int // small objects at once, 32 when 0; image files: a quarter of it
	Full        bool
	TakeOver    bool
	DryRun      bool
	Verify      bool // compare the mirror even if that was done within VerifyEvery
	Progress    Progress
	Now         func() time.Time

	before *seen // what an attempt of this run has already read
}

// Deletion is what a run would take away.
type Deletion struct {
	Manifests, OfManifests int
	Files, OfFiles         int
	Share                  float64 // the larger one
	Paths                  []string
}

// Report is what a run did.
type Report struct {
	Generation  uint64    `json:"generation"` // newest one in the store, 0 if none
	Published   bool      `json:"published"`  // this run wrote it
	DryRun      bool      `json:"dry_run,omitempty"`
	Time        time.Time `json:"time"`
	Changed     int       `json:"changed"` // entries new or with other content
	Deleted     int       `json:"deleted"`
	Uploaded    int64     `json:"uploaded_bytes"` // image files
	State       Summary   `json:"state"`
	BaseWritten bool      `json:"base_written,omitempty"`
	Verified    bool      `json:"verified"` // the mirror was compared with the log
	Resent      int       `json:"resent"`   // mirror objects put right
	Faults      []Fault   `json:"faults"`
	Elapsed     float64   `json:"elapsed_seconds"`
	Puts        []string  `json:"puts,omitempty"` // dry run only
	Deletes     []string  `json:"deletes,omitempty"`
}

func (r *Runner) defaults() {
	if r.MaxDelete == 0 {
		r.MaxDelete = DefaultMaxDelete
	}
	if r.Parallel == 0 {
		r.Parallel = 32
	}
	if r.Progress == nil {
		r.Progress = noProgress{}
	}
	if r.Now == nil {
		r.Now = time.Now
	}
}

// LockPath is the lock that keeps two runs of one instance apart.
func LockPath(stateDir string) string { return filepath.Join(stateDir, "backup.lock") }

func cachePath(stateDir string) string { return filepath.Join(stateDir, "cache.jsonl") }

// Run makes one backup: scan, image files, record, mirror. Faults that leave
// something out are in the report, not an error.
func (r *Runner) Run(ctx context.Context) (rep Report, err error) {
	r.defaults()
	start := time.Now()
	if err := durable.MkdirAll(r.StateDir, 0o700); err != nil {
		return rep, err
	}
	lock, err := durable.Acquire(LockPath(r.StateDir), "backup run")
	if err != nil {
		return rep, heldBy(err)
	}
	defer lock.Release()
	switch b, err := os.ReadFile(restoringPath(r.StateDir)); {
	case err == nil:
		return rep, fail.Hint(fail.New(fail.Refused, "a restore of this instance (%s) is not finished; what is on disk now is not to be saved", strings.TrimSpace(string(b))),
			"tritonops runs list   # then `runs resume` or `runs undo`; where it is in no run any more, a new `imgapi restore` ends it")
	case !errors.Is(err, fs.ErrNotExist):
		return rep, err
	}
	if err := cleanSpools(r.StateDir); err != nil {
		return rep, err
	}
	for try := 0; ; try++ {
		rep, err = r.once(ctx)
		if try == 4 || !errors.Is(err, ErrRace) && !errors.Is(err, instance.ErrChanging) {
			break
		}
		r.Progress.Note(fmt.Sprintf("%v; measuring again", err))
	}
	if errors.Is(err, ErrRace) {
		err = fail.As(fail.Held, err)
	}
	rep.Elapsed = time.Since(start).Seconds()
	return rep, err
}

func heldBy(err error) error {
	var held *durable.HeldError
	if errors.As(err, &held) {
		return fail.Hint(fail.As(fail.Held, err), "wait for it to end; it is the only one that may write")
	}
	return err
}

// once is one attempt: everything from the log's newest record on.
func (r *Runner) once(ctx context.Context) (rep Report, err error) {
	log, err := OpenLog(ctx, r.Store, r.Progress.Note)
	if err != nil {
		return rep, err
	}
	c := loadCache(cachePath(r.StateDir))
	pos, err := r.position(ctx, log, c)
	if err != nil {
		return rep, err
	}
	if err := r.fence(log, c, pos); err != nil {
		return rep, err
	}
	mirror := mirrorSync{st: r.Store, log: log, parallel: r.Parallel, progress: r.Progress}
	if !r.DryRun && !r.Full { // a full record may be the way out of what catching up fails at
		if err := mirror.catchUp(ctx, pos); err != nil {
			return rep, err
		}
	}
	s, sh, err := r.measure(ctx, log, pos, c)
	if err != nil {
		return rep, err
	}
	changes := s.diff()
	if r.Full || log.Empty() {
		changes = Changes{Puts: s.entries, Full: true, Deletes: nil}
	}
	rep = Report{Generation: pos.Seq, Time: pos.Time, DryRun: r.DryRun, Faults: s.faults, Uploaded: sh.uploaded}
	rep.Changed, rep.Deleted = len(changes.Puts), len(changes.Deletes)
	known := pos.State
	if known.Len() == 0 && c.StoreID == log.StoreID() {
		known = c.state // behind damage: what this instance last saw there
	}
	if err := r.guard(ctx, known, s); err != nil {
		return rep, err
	}
	if r.DryRun {
		rep.State = pos.State.Apply(changes.Puts, changes.Deletes).Summary()
		rep.Deletes = changes.Deletes
		for _, e := range changes.Puts {
			rep.Puts = append(rep.Puts, e.Path)
		}
		return rep, nil
	}
	if !changes.Empty() {
		if pos, err = log.Append(ctx, pos, Header{Kind: KindCommit, Writer: r.Writer}, r.Epoch, r.Now(), changes, r.anyContent(ctx, log, s), r.StateDir); err != nil {
			return rep, err
		}
		rep.Published, rep.Generation, rep.Time = true, pos.Seq, pos.Time
	}
	rep.State = pos.State.Summary()
	if rep.Published || s.fresh > 0 || c.Seq != pos.Seq {
		if err := r.saveCache(log, pos, s.sigs); err != nil {
			return rep, err
		}
	}
	return rep, r.finish(ctx, log, &mirror, pos, s, changes.Full, &rep)
}

// measure scans the disk and brings the image files up. After it every entry's
// content is known.
func (r *Runner) measure(ctx context.Context, log *Log, pos Position, c *cache) (*scanned, *shipper, error) {
	r.Progress.Phase("scan", 0, "files")
	if r.before == nil {
		r.before = &seen{c.state, c.sigs}
	}
	s, err := scan(ctx, r.Instance, pos.State, *r.before, 4, r.Progress)
	if err != nil {
		return nil, nil, err
	}
	sh := &shipper{st: r.Store, storeID: log.StoreID(), scan: s, progress: r.Progress, dry: r.DryRun}
	if err := sh.ship(ctx, max(2, r.Parallel/4)); err != nil {
		return nil, nil, err
	}
	if err := s.missing(ctx); err != nil {
		return nil, nil, err
	}
	r.before = &seen{State{s.entries}, s.sigs}
	return s, sh, nil
}

// finish is what follows the record: mirror, base, verification. The record stands, so
// a failure here is put right by the next run.
func (r *Runner) finish(ctx context.Context, log *Log, mirror *mirrorSync, pos Position, s *scanned, full bool, rep *Report) error {
	if err := mirror.catchUp(ctx, pos); err != nil {
		return fmt.Errorf("generation %d is published, its mirror is not complete: %w", pos.Seq, err)
	}
	written, err := r.baseIfDue(ctx, log, pos, s, full)
	if err != nil {
		return fmt.Errorf("generation %d is published, writing a base failed: %w", pos.Seq, err)
	}
	rep.BaseWritten = written
	return r.verifyIfDue(ctx, log, mirror, pos, rep)
}

func (r *Runner) saveCache(log *Log, pos Position, sigs map[string]signature) error {
	c := &cache{state: pos.State, sigs: sigs, cacheHeader: cacheHeader{
		StoreID: log.StoreID(), Seq: pos.Seq, SHA256: pos.SHA256, Epoch: pos.Epoch, Time: pos.Time, Writer: pos.Writer,
		HeadMD5: fmt.Sprintf("%x", log.head.MD5),
	}}
	return c.save(cachePath(r.StateDir))
}

// position finds the state at the log's newest record: from the cache and the
// records since, or from a base.
func (r *Runner) position(ctx context.Context, log *Log, c *cache) (Position, error) {
	head := log.HeadSeq()
	if c.StoreID == log.StoreID() && c.Seq > 0 {
		switch {
		case c.Seq > head && !r.Full:
			return Position{}, fail.Hint(fail.New(fail.Refused,
				"%s: backup log ends at %d, but this instance has seen %d: records were lost or the store was set back", r.Store, head, c.Seq),
				"tritonops imgapi backup verify   # then `backup run --full` to go on from here")
		case c.Seq == head && c.HeadMD5 == fmt.Sprintf("%x", log.head.MD5):
			return c.position(), nil
		case c.Seq < head:
			if pos, err := log.replay(ctx, c.position(), head, noSink{}); err == nil {
				return pos, nil
			} else if ctx.Err() != nil {
				return Position{}, ctx.Err()
			}
		}
	}
	pos, err := log.StateAt(ctx, head, nil)
	if err != nil && r.Full && damage(err) {
		return r.afterDamage(ctx, log, c, err)
	}
	return pos, err
}

// afterDamage is where a full record continues a log whose states cannot be
// rebuilt: its number is known, what it held is not. Epoch, time and writer are
// those of the newest record that can be read, or that this instance remembers.
func (r *Runner) afterDamage(ctx context.Context, log *Log, c *cache, cause error) (Position, error) {
	head := log.HeadSeq()
	h, _, sum, err := log.tail(ctx)
	if err != nil && !damage(err) {
		return Position{}, err
	}
	if err != nil && c.StoreID == log.StoreID() {
		h = Header{Epoch: c.Epoch, Time: c.Time, Writer: c.Writer}
	}
	r.Progress.Note(fmt.Sprintf("%v; going on with a full record", cause))
	return Position{Seq: head, SHA256: sum, Epoch: h.Epoch, Time: h.Time, Writer: h.Writer}, nil
}

// fence refuses to write where another writer has the right to: a higher epoch,
// or another instance's records that this one has not restored.
func (r *Runner) fence(log *Log, c *cache, pos Position) error {
	if pos.Epoch > r.Epoch {
		return fail.Hint(fail.New(fail.Held, "%s: backup log: epoch %d of %s is in force, this writer has %d", r.Store, pos.Epoch, name(pos.Writer), r.Epoch),
			"tritonops imgapi instances   # shows the primary")
	}
	if r.TakeOver || log.Empty() || pos.Writer.Instance == r.Writer.Instance {
		return nil
	}
	if c.StoreID == log.StoreID() && c.Seq == pos.Seq && c.SHA256 == pos.SHA256 {
		return nil // restored from this very generation
	}
	if pos.Writer == (Writer{}) { // damaged, and this instance never saw it whole
		return fail.Hint(fail.New(fail.Held, "%s: backup log: generation %d no longer tells who wrote it; this instance does not continue it", r.Store, pos.Seq),
			"tritonops imgapi backup run --full --take-over   # if this disk holds the truth")
	}
	return fail.Hint(fail.New(fail.Held, "%s: backup log: generation %d was written by %s at %s; this instance does not continue it",
		r.Store, pos.Seq, name(pos.Writer), pos.Time.Format(time.RFC3339)),
		"tritonops imgapi restore   # take its data first; or `backup run --take-over` if this disk holds the truth")
}

func name(w Writer) string {
	if w.Alias == "" {
		return w.Instance
	}
	return w.Alias + " (" + w.Instance + ")"
}

// guard stops a run that would take away more than MaxDelete: an empty or
// foreign disk must not empty the backup.
func (r *Runner) guard(ctx context.Context, known State, s *scanned) error {
	var d Deletion
	local := State{s.entries}
	for _, e := range known.Entries() {
		_, there := local.Get(e.Path)
		switch {
		case e.Manifest():
			d.OfManifests++
			if !there {
				d.Manifests++
			}
		case !e.Inline():
			d.OfFiles++
			if !there {
				d.Files++
			}
		}
		if !there {
			d.Paths = append(d.Paths, e.Path)
		}
	}
	d.Share = max(share(d.Manifests, d.OfManifests), share(d.Files, d.OfFiles))
	if d.Share <= max(r.MaxDelete, 0) || r.DryRun {
		return nil
	}
	if r.AllowDelete != nil {
		ok, err := r.AllowDelete(ctx, d)
		if err != nil || ok {
			return err
		}
	}
	return fail.Hint(fail.New(fail.Refused, "this run would delete %d of %d manifests and %d of %d image files from the backup, more than %.0f %%; nothing changed",
		d.Manifests, d.OfManifests, d.Files, d.OfFiles, 100*max(r.MaxDelete, 0)),
		"tritonops imgapi backup run --max-delete %.0f%%   # if the images were deleted on purpose; `imgapi restore` if the disk lost them", 100*d.Share+1)
}

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

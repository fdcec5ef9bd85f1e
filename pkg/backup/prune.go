package backup

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Grace is how long an object must have been known as unreferenced, by the
// store's clock, before prune deletes it: an upload whose record is not written
// yet looks like garbage.
const Grace = 24 * time.Hour

// readerLife is how long a reader's mark holds prune back.
const readerLife = 24 * time.Hour

// Keep says which generations must stay restorable: each rule that applies keeps
// its own.
type Keep struct {
	Last   int           // the newest N generations
	Within time.Duration // every generation that was current within this time
}

// PruneOptions drive a prune.
type PruneOptions struct {
	Keep     Keep
	Grace    time.Duration // Grace when 0
	DryRun   bool
	StateDir string
	Progress Progress
}

// Pruned is what a prune did, or would do.
type Pruned struct {
	DryRun      bool     `json:"dry_run"`
	OldestKept  uint64   `json:"oldest_kept"` // generations from here on are restorable
	Newest      uint64   `json:"newest"`
	HeldBy      string   `json:"held_by,omitempty"` // why more was kept than asked
	Records     int      `json:"records_deleted"`
	Bases       int      `json:"bases_deleted"`
	Objects     int      `json:"objects_deleted"`
	Bytes       int64    `json:"bytes_freed"` // of objects
	Condemned   int      `json:"condemned"`   // unreferenced, waiting out the grace
	Deleted     []string `json:"deleted,omitempty"`
	NewlyMarked int      `json:"newly_condemned"`
}

// Prune takes away what no kept generation names. It never takes the newest
// generation that was proven good, nor what a running restore reads.
func Prune(ctx context.Context, st store.Store, o PruneOptions) (p Pruned, err error) {
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	if o.Grace == 0 {
		o.Grace = Grace
	}
	if o.Keep == (Keep{}) {
		return p, fail.New(fail.Usage, "prune: nothing says what to keep")
	}
	if err := durable.MkdirAll(o.StateDir, 0o700); err != nil {
		return p, err
	}
	lock, err := durable.Acquire(LockPath(o.StateDir), "backup prune")
	if err != nil {
		return p, heldBy(err)
	}
	defer lock.Release()
	log, err := OpenLog(ctx, st, o.Progress.Note)
	if err != nil || log.Empty() {
		return p, err
	}
	pr := &pruner{st: st, log: log, o: o, p: Pruned{DryRun: o.DryRun, Newest: log.HeadSeq()}}
	if pr.now, err = st.Now(ctx); err != nil {
		return p, err
	}
	floor, err := pr.floor(ctx)
	if err != nil {
		return p, err
	}
	oldest, k, err := pr.start(ctx, floor)
	if err != nil {
		return pr.p, err
	}
	if err := pr.trimLog(ctx, oldest); err != nil {
		return pr.p, err
	}
	return pr.p, pr.objects(ctx, k)
}

type pruner struct {
	st  store.Store
	log *Log
	o   PruneOptions
	now time.Time // the store's
	p   Pruned
}

// floor returns the oldest generation that must stay.
func (pr *pruner) floor(ctx context.Context) (uint64, error) {
	head := pr.log.HeadSeq()
	floor := head
	if n := uint64(pr.o.Keep.Last); n > 0 {
		floor = head - min(head, n) + 1
	}
	if pr.o.Keep.Within > 0 {
		at, err := pr.log.At(ctx, pr.now.Add(-pr.o.Keep.Within))
		if err != nil {
			return 0, err
		}
		floor = min(floor, max(at, 1))
	}
	v, _, err := loadVerified(ctx, pr.log)
	if err != nil {
		return 0, err
	}
	if v.Seq == 0 {
		return 0, fail.Hint(fail.New(fail.Refused, "%s: no generation has been proven good yet, so none is taken away", pr.st),
			"tritonops imgapi backup verify")
	}
	if v.Seq < floor {
		floor = v.Seq
		pr.p.HeldBy = fmt.Sprintf("generation %d is the newest one proven good", v.Seq)
	}
	readers, err := Readers(ctx, pr.st, pr.now)
	if err != nil {
		return 0, err
	}
	for _, r := range readers {
		if r.Seq < floor {
			floor = r.Seq
			pr.p.HeldBy = fmt.Sprintf("%s reads generation %d since %s", r.Who, r.Seq, r.Time.UTC().Format(time.RFC3339))
		}
	}
	return floor, nil
}

// start returns the base (0: the beginning of the log) from which every kept
// generation can be read, and what those name. It was read from there to the end:
// a damaged base is no start, and nothing before the one taken instead may go.
func (pr *pruner) start(ctx context.Context, floor uint64) (uint64, kept, error) {
	bases, err := pr.log.bases(ctx)
	if err != nil {
		return 0, nil, err
	}
	_, first, err := pr.log.first(ctx, bases)
	if err != nil {
		return 0, nil, err
	}
	starts := []uint64{first}
	for _, b := range bases {
		if b > first && b <= floor && b <= keepBases(bases, floor)[0] {
			starts = append(starts, b)
		}
	}
	for i := len(starts) - 1; i >= 0; i-- {
		var k kept
		if k, err = references(ctx, pr.log, starts[i]); err == nil {
			pr.p.OldestKept = max(starts[i], 1)
			return starts[i], k, nil
		}
		if !damage(err) {
			return 0, nil, err
		}
		pr.o.Progress.Note(fmt.Sprintf("the log cannot be read from %d on (%v)", starts[i], err))
	}
	return 0, nil, fail.Hint(fail.New(fail.Refused, "%s: backup log: no base leads to the newest generation, so none is taken away: %w", pr.st, err),
		"tritonops imgapi backup run --full   # a record that needs nothing before it")
}

// trimLog deletes bases and records before oldest, the oldest first, so that what
// is left is one unbroken run at any moment.
func (pr *pruner) trimLog(ctx context.Context, oldest uint64) error {
	bases, err := pr.log.bases(ctx)
	if err != nil {
		return err
	}
	for _, b := range bases {
		if b < oldest {
			if err := pr.delete(ctx, baseKey(b), store.Condition{}); err != nil {
				return err
			}
			pr.p.Bases++
		}
	}
	dirs := map[string]bool{}
	for info, err := range pr.log.Records(ctx) {
		if err != nil {
			return err
		}
		seq, _ := seqOf(info.Key)
		if seq >= oldest {
			break
		}
		if err := pr.delete(ctx, info.Key, store.Condition{}); err != nil {
			return err
		}
		pr.p.Records++
		if d := path.Dir(info.Key); d != recordDir(oldest) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		pr.rmdir(ctx, d)
	}
	return nil
}

func (pr *pruner) delete(ctx context.Context, key string, cond store.Condition) error {
	if pr.o.DryRun {
		pr.p.Deleted = append(pr.p.Deleted, key)
		return nil
	}
	return pr.st.Delete(ctx, key, cond)
}

// rmdir removes a directory if it is empty; one that is not, or is filled at this
// moment, simply stays.
func (pr *pruner) rmdir(ctx context.Context, dir string) {
	if !pr.o.DryRun {
		_ = pr.st.Delete(ctx, dir, store.Condition{})
	}
}

// kept is the Sink that gathers every object a kept generation names.
type kept map[string][]Entry // by path

func (k kept) Reset() error        { return nil } // a full record does not unname what came before
func (k kept) Delete(string) error { return nil }
func (k kept) Put(e Entry, _ []byte) error {
	if e.Inline() {
		return nil
	}
	for _, o := range k[e.Path] {
		if o.Same(e) {
			return nil
		}
	}
	k[e.Path] = append(k[e.Path], e)
	return nil
}

// references returns every object entry of the generations from a base (0: the
// beginning of the log) to the newest.
func references(ctx context.Context, log *Log, base uint64) (kept, error) {
	k := kept{}
	_, err := log.rebuild(ctx, base, log.HeadSeq(), k)
	return k, err
}

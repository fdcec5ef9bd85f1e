package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// beginStep keeps prune away from what is read and backup runs away from a tree
// that is half swapped, also after a crash.
func (r *Restorer) beginStep() procedure.Step {
	return procedure.Step{
		Name: "begin", Line: "hold backup runs here and prune in the store until the restore ends",
		Preflight: func(ctx context.Context, _ *procedure.Run) error {
			_, err := OpenLog(ctx, r.Store, nil)
			return err
		},
		Apply: func(ctx context.Context, _ *procedure.Run) (any, error) {
			if r.inPlace() {
				if err := r.holdRuns(); err != nil {
					return nil, procedure.Unchanged(err)
				}
			}
			return nil, r.markReader(ctx)
		},
		Undo: func(ctx context.Context, _ *procedure.Run) error { return r.end(ctx) },
	}
}

func (r *Restorer) endStep() procedure.Step {
	return procedure.Step{
		Name: "end", Line: "let backup runs and prune go on",
		Apply: func(ctx context.Context, _ *procedure.Run) (any, error) { return nil, r.end(ctx) },
		Undo:  procedure.NothingToUndo,
	}
}

// restoringPath is the note that a restore of this instance is not finished.
func restoringPath(stateDir string) string { return filepath.Join(stateDir, "restoring") }

func (r *Restorer) holdRuns() error {
	if err := durable.MkdirAll(r.StateDir, 0o700); err != nil {
		return err
	}
	lock, err := durable.Acquire(LockPath(r.StateDir), "restore")
	if err != nil {
		return heldBy(err)
	}
	defer lock.Release()
	return durable.WriteFile(restoringPath(r.StateDir), []byte(r.Params.ID+"\n"), 0o600)
}

func (r *Restorer) end(ctx context.Context) error {
	if r.inPlace() {
		if err := durable.Remove(restoringPath(r.StateDir)); err != nil {
			return err
		}
	}
	for _, d := range []string{r.stage(), r.aside(), r.dir()} {
		_ = os.Remove(d) // as far as it is empty
	}
	if r.Params.Generation == 0 {
		return nil
	}
	return UnmarkReader(ctx, r.Store, r.Params.ID)
}

func (r *Restorer) markReader(ctx context.Context) error {
	if r.Params.Generation == 0 {
		return nil
	}
	err := MarkReader(ctx, r.Store, Reader{ID: r.Params.ID, Seq: r.Params.Generation, Who: "restore on " + name(r.Writer), Time: r.Now().UTC()})
	if errors.Is(err, syscall.EROFS) && !r.newTimeline() {
		return nil // a medium that cannot be written is not pruned either
	}
	return err
}

// keepMarked renews the mark until stop is called: a download may take days.
func (r *Restorer) keepMarked(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(readerLife / 8)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if err := r.markReader(ctx); err != nil {
					r.progress.Note(fmt.Sprintf("renewing the reader mark: %v", err))
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (r *Restorer) downloadStep() procedure.Step {
	return procedure.Step{
		Name: "download", Line: "download into " + r.dir() + " and verify every file",
		Preflight: func(context.Context, *procedure.Run) error { return r.checkTarget() },
		Apply: func(ctx context.Context, run *procedure.Run) (any, error) {
			r.progress = run.Progress()
			if err := durable.MkdirAll(r.dir(), 0o700); err != nil { // auth keys may come into it
				return nil, err
			}
			if err := durable.MkdirAll(r.stage(), 0o755); err != nil {
				return nil, err
			}
			if err := r.markReader(ctx); err != nil { // a resume may come days later
				return nil, err
			}
			defer r.keepMarked(ctx)()
			return r.download(ctx)
		},
		Undo:      func(context.Context, *procedure.Run) error { return os.RemoveAll(r.stage()) },
		UndoCopes: true,
	}
}

// checkTarget refuses a place that renames cannot reach or that holds something
// else.
func (r *Restorer) checkTarget() error {
	from, err := nearestDir(r.dir()) // a preflight makes nothing
	if err != nil {
		return err
	}
	near := r.target()
	if !r.inPlace() {
		entries, err := os.ReadDir(near)
		if err == nil && len(entries) > 0 {
			return fail.New(fail.Refused, "%s: is not empty; a restore goes into a new or empty directory", near)
		}
		if near, err = nearestDir(filepath.Dir(near)); err != nil {
			return err
		}
	}
	near = filepath.Clean(near)
	places := []string{near, filepath.Join(near, "images"), filepath.Join(near, "manifests")}
	if !r.wholeTree() {
		shard := filepath.Join(near, "images", r.Params.Image[:3])
		places = append(places, shard, filepath.Join(shard, r.Params.Image))
	}
	if r.Params.WithKeys {
		places = append(places, filepath.Join(near, "etc"), filepath.Join(near, "etc", "authkeys"))
	}
	for _, p := range places {
		same, err := sameDevice(from, p)
		if err != nil {
			return err
		}
		if !same {
			return fail.Hint(fail.New(fail.Refused, "%s: is on another file system than %s; a restore swaps by renaming", p, r.dir()),
				"tritonops imgapi restore --into DIR   # with DIR beside %s", r.dir())
		}
	}
	return nil
}

// nearestDir is p, or the closest directory above it that exists: where p will be
// made.
func nearestDir(p string) (string, error) {
	for {
		_, err := os.Stat(p)
		if err == nil || !os.IsNotExist(err) || p == filepath.Dir(p) {
			return p, err
		}
		p = filepath.Dir(p)
	}
}

func sameDevice(a, b string) (bool, error) {
	fa, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	fb, err := os.Lstat(b)
	if os.IsNotExist(err) {
		return true, nil // to be made there
	}
	if err != nil {
		return false, err
	}
	if fb.Mode()&os.ModeSymlink != 0 {
		return false, fail.New(fail.Refused, "%s: is a symbolic link; a restore does not follow it", b)
	}
	sa, ok := fa.Sys().(*syscall.Stat_t)
	sb, ok2 := fb.Sys().(*syscall.Stat_t)
	return !ok || !ok2 || sa.Dev == sb.Dev, nil
}

func (r *Restorer) stopStep() procedure.Step {
	return procedure.Step{
		Name: "stop server", Line: "stop the image server: it reads manifests only when it starts",
		Apply: func(ctx context.Context, _ *procedure.Run) (any, error) { return nil, r.Server.Stop(ctx) },
		Undo:  func(ctx context.Context, _ *procedure.Run) error { return r.Server.Start(ctx) },
	}
}

func (r *Restorer) startStep() procedure.Step {
	return procedure.Step{
		Name: "start server", Line: "start the image server and wait until it answers",
		Apply: func(ctx context.Context, _ *procedure.Run) (any, error) { return nil, r.Server.Start(ctx) },
		// Undoing the swap needs it down; undoing "stop server" brings it back.
		Undo: func(ctx context.Context, _ *procedure.Run) error { return r.Server.Stop(ctx) },
	}
}

func (r *Restorer) markerStep() procedure.Step {
	return procedure.Step{
		Name: "mark restored", Line: "write " + r.Instance.RestoredMarker() + ", which lets backups run",
		Apply: func(context.Context, *procedure.Run) (any, error) {
			return nil, r.Instance.MarkRestored(r.Now())
		},
		Verify: func(context.Context, *procedure.Run) error {
			_, ok, err := r.Instance.RestoredAt()
			if err == nil && !ok {
				err = fmt.Errorf("%s: not there after it was written", r.Instance.RestoredMarker())
			}
			return err
		},
		Undo:   procedure.NothingToUndo,
		Leaves: "the marker: the store was read whole",
	}
}

func (r *Restorer) compareStep() procedure.Step {
	return procedure.Step{
		Name: "compare", Line: "compare what the server lists with what was restored",
		Apply: func(ctx context.Context, run *procedure.Run) (any, error) { return r.compare(ctx) },
		Undo:  procedure.NothingToUndo,
	}
}

// Compared is the compare step's output.
type Compared struct {
	Listed   int      `json:"listed"`
	Expected int      `json:"expected"`
	Missing  []string `json:"missing,omitempty"` // on disk and active, not listed
	Extra    []string `json:"extra,omitempty"`   // listed, not on disk
}

// compare reads the manifests on disk again: what counts is what the server saw.
func (r *Restorer) compare(ctx context.Context) (c Compared, err error) {
	listed, err := r.Server.Listed(ctx)
	if err != nil {
		return c, err
	}
	c.Listed = len(listed)
	for m, err := range r.Instance.Manifests(ctx) {
		if err != nil {
			return c, err
		}
		mf, err := r.Instance.ReadManifest(ctx, m.UUID)
		if err != nil {
			c.Missing = append(c.Missing, m.UUID)
			delete(listed, m.UUID)
			continue
		}
		if mf.Manifest.State() == "active" {
			c.Expected++
			if !listed[m.UUID] {
				c.Missing = append(c.Missing, m.UUID)
			}
		}
		delete(listed, m.UUID)
	}
	for u := range listed {
		c.Extra = append(c.Extra, u)
	}
	return c, nil
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// parts are what is swapped, in this order: whole trees, or the files of one
// image, image files first.
func (r *Restorer) parts() []string {
	var parts []string
	if r.wholeTree() {
		parts = []string{"images", "manifests"}
	} else {
		parts = []string{filepath.Join("images", r.Params.Image[:3], r.Params.Image), filepath.Join("manifests", r.Params.Image+".raw")}
	}
	if r.Params.WithKeys {
		parts = append(parts, filepath.Join("etc", "authkeys", "local"))
	}
	return parts
}

// swapStep puts one staged tree or file in the place of the live one, which is
// kept aside. Three places and two renames: whichever exist tell how far a
// former attempt came.
func (r *Restorer) swapStep(part string) procedure.Step {
	s := swap{
		staged: filepath.Join(r.stage(), part), live: filepath.Join(r.Instance.DataDir(), part),
		aside: filepath.Join(r.aside(), part), undone: filepath.Join(r.dir(), "undone", part), mkdir: r.mkdirOwned,
	}
	return procedure.Step{
		Name: "swap " + filepath.ToSlash(part), Line: fmt.Sprintf("put %s in place; what it replaces goes to replaced/ there", filepath.ToSlash(part)),
		Apply: func(context.Context, *procedure.Run) (any, error) {
			// Again: the server's user may have put a link in the way since the preflight.
			if err := r.checkTarget(); err != nil {
				return nil, err
			}
			return nil, s.apply()
		},
		Verify: func(context.Context, *procedure.Run) error {
			if exists(s.staged) {
				return fmt.Errorf("%s: still there", s.staged)
			}
			return nil
		},
		Undo:   func(context.Context, *procedure.Run) error { return s.undo() },
		Leaves: "what the server wrote since, in undone/ beside it",
	}
}

type swap struct {
	staged, live, aside string
	undone              string // where an undo puts what was live
	mkdir               func(dir string) error
}

// taken marks that the live place was looked at and, if anything stood there, it
// is aside. Without it, a live tree after a crash could be the old or the new one.
func (s swap) taken() string { return s.aside + ".taken" }

func (s swap) apply() error {
	if !exists(s.taken()) {
		if err := durable.MkdirAll(filepath.Dir(s.aside), 0o755); err != nil {
			return err
		}
		if exists(s.live) && !exists(s.aside) {
			if err := durable.Rename(s.live, s.aside); err != nil {
				return err
			}
		}
		if err := durable.WriteFile(s.taken(), nil, 0o600); err != nil {
			return err
		}
	}
	if !exists(s.staged) {
		return nil // in place, or the generation has nothing there
	}
	if err := s.mkdir(filepath.Dir(s.live)); err != nil {
		return err
	}
	return durable.Rename(s.staged, s.live)
}

// undo brings the old tree back. What was put in its place, with all that the
// server wrote since, is kept: nobody else may have it.
func (s swap) undo() error {
	if !exists(s.taken()) {
		if exists(s.aside) && !exists(s.live) {
			return durable.Rename(s.aside, s.live)
		}
		return nil
	}
	// With nothing aside and something staged, what is live is the old tree already.
	if exists(s.live) && !exists(s.undone) && (exists(s.aside) || !exists(s.staged)) {
		if err := durable.MkdirAll(filepath.Dir(s.undone), 0o700); err != nil {
			return err
		}
		if err := durable.Rename(s.live, s.undone); err != nil {
			return err
		}
	}
	if exists(s.aside) {
		if err := durable.Rename(s.aside, s.live); err != nil {
			return err
		}
	}
	return durable.Remove(s.taken())
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return !errors.Is(err, fs.ErrNotExist)
}

// publishStep gives a restore into a directory its name.
func (r *Restorer) publishStep() procedure.Step {
	return procedure.Step{
		Name: "publish", Line: "move it to " + r.Params.Into,
		Apply: func(context.Context, *procedure.Run) (any, error) {
			if !exists(r.stage()) {
				return nil, nil // a former attempt did
			}
			if err := os.Remove(r.Params.Into); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if err := durable.MkdirAll(filepath.Dir(r.Params.Into), 0o755); err != nil {
				return nil, err
			}
			return nil, durable.Rename(r.stage(), r.Params.Into)
		},
		Verify: func(context.Context, *procedure.Run) error {
			_, err := os.Stat(r.Params.Into)
			return err
		},
		Undo: func(context.Context, *procedure.Run) error {
			if exists(r.stage()) || !exists(r.Params.Into) {
				return nil
			}
			if err := durable.MkdirAll(r.dir(), 0o700); err != nil {
				return err
			}
			return durable.Rename(r.Params.Into, r.stage())
		},
	}
}

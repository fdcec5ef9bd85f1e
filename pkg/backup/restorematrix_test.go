package backup

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/procedure/proctest"
)

// fakeServer stands for the service manager: up or down, and what was on disk
// when it came up.
type fakeServer struct {
	w      *world
	up     bool
	listed map[string]bool
}

func (s *fakeServer) Stop(context.Context) error {
	s.up = false
	return nil
}

func (s *fakeServer) Start(ctx context.Context) error {
	if s.up {
		return nil
	}
	uuids, err := s.w.inst.UUIDs(ctx)
	if err != nil {
		return err
	}
	s.up, s.listed = true, map[string]bool{}
	for _, u := range uuids {
		s.listed[u] = true
	}
	return nil
}

func (s *fakeServer) Listed(context.Context) (map[string]bool, error) {
	if !s.up {
		return nil, errors.New("connection refused")
	}
	return maps.Clone(s.listed), nil
}

// restoreFixture is an instance whose disk differs from its backup both ways.
func restoreFixture(params RestoreParams) func(t *testing.T) proctest.Fixture {
	return func(t *testing.T) proctest.Fixture {
		w := newWorld(t, 3)
		w.clean()
		w.manifest(2, "content of image 2", "edited")
		w.clean()
		w.remove(1)
		w.image(7, "only here")
		srv := &fakeServer{w: w}
		w.must(srv.Start(context.Background()))
		p := params
		p.ID, p.Source = "m", "the store" // no random name: fixtures must look alike
		w.must(p.Resolve(context.Background(), w.st, p.Generation, time.Time{}))
		raw, err := json.Marshal(p)
		w.must(err)
		return proctest.Fixture{
			Params: raw,
			Rebuild: func(_ context.Context, raw json.RawMessage) (procedure.Plan, error) {
				var p RestoreParams
				if err := json.Unmarshal(raw, &p); err != nil {
					return procedure.Plan{}, err
				}
				r := w.restorer(p)
				r.Params = p
				r.Server = srv
				return r.Plan()
			},
			Fingerprint: func() (string, error) { return w.fingerprint(srv), nil },
		}
	}
}

// fingerprint is the data, what the server lists, and what holds others back.
// The marker and the record are left by an undo on purpose.
func (w *world) fingerprint(srv *fakeServer) string {
	var b strings.Builder
	tree := w.tree()
	for _, p := range slices.Sorted(maps.Keys(tree)) {
		fmt.Fprintf(&b, "%s %x\n", p, sha256.Sum256([]byte(tree[p])))
	}
	fmt.Fprintln(&b, "server", srv.up, slices.Sorted(maps.Keys(srv.listed)))
	readers, err := Readers(context.Background(), w.st, time.Now())
	fmt.Fprintln(&b, "readers", len(readers), err, "restoring", exists(restoringPath(w.stateDir())))
	return b.String()
}

func TestRestoreKeepsThePromisesOfAProcedure(t *testing.T) {
	t.Run("newest", func(t *testing.T) { proctest.Matrix(t, restoreFixture(RestoreParams{})) })
	if testing.Short() {
		return // the other two are the same steps with other parameters
	}
	t.Run("earlier", func(t *testing.T) { proctest.Matrix(t, restoreFixture(RestoreParams{Generation: 1})) })
	t.Run("one image", func(t *testing.T) { proctest.Matrix(t, restoreFixture(RestoreParams{Image: uuidOf(1)})) })
}

package procedure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tritonops/tritonops/pkg/fail"
)

// files is a procedure that makes files a, b, c ... in a directory, each with
// the name of the one before in it.
type files struct {
	dir    string
	names  []string
	target string
	change func(p *Plan) // spoils the plan
}

func newFiles(t testing.TB, names ...string) *files {
	t.Helper()
	return &files{dir: t.TempDir(), names: names, target: "files"}
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func (f *files) rebuild(context.Context, json.RawMessage) (Plan, error) { return f.plan(), nil }

func (f *files) plan() Plan {
	p := Plan{Kind: "files", Target: f.target, Title: "make some files", Params: json.RawMessage(`{"n": 3}`)}
	for i, n := range f.names {
		p.Steps = append(p.Steps, f.step(i, n))
	}
	if f.change != nil {
		f.change(&p)
	}
	return p
}

func (f *files) step(i int, name string) Step {
	return Step{
		Name: name, Line: "make file " + name,
		Satisfied: func(context.Context, *Run) (bool, any, error) {
			_, err := os.Stat(f.path(name))
			return err == nil, name, nil
		},
		Apply: func(ctx context.Context, r *Run) (any, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			before := ""
			if i > 0 {
				if err := r.Output(f.names[i-1], &before); err != nil {
					return nil, err
				}
			}
			return name, os.WriteFile(f.path(name), []byte(before), 0o600)
		},
		Verify: func(context.Context, *Run) error {
			_, err := os.Stat(f.path(name))
			return err
		},
		Undo: func(context.Context, *Run) error {
			err := os.Remove(f.path(name))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		},
	}
}

// there lists the files that exist, in order.
func (f *files) there(t testing.TB) string {
	t.Helper()
	es, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

type yes struct{}

func (yes) Ask(context.Context, Question) (bool, error) { return true, nil }

type no struct{ asked []Question }

func (n *no) Ask(_ context.Context, q Question) (bool, error) {
	n.asked = append(n.asked, q)
	return false, nil
}

// recorder is an observer that keeps what it saw.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) Observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) names() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n []string
	for _, e := range r.events {
		n = append(n, e.EventName())
	}
	return strings.Join(n, " ")
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	return &Engine{Dir: filepath.Join(t.TempDir(), "runs"), Version: "test", By: "root@hn1"}
}

// run confirms and starts a plan.
func run(ctx context.Context, t testing.TB, e *Engine, p Plan) (*Result, error) {
	t.Helper()
	a, err := Confirm(ctx, p, yes{})
	if err != nil {
		t.Fatal(err)
	}
	return e.Start(ctx, p, a)
}

// only returns the one run there is.
func only(t testing.TB, e *Engine) *Report {
	t.Helper()
	all, err := e.List()
	if err != nil || len(all) != 1 {
		t.Fatalf("runs: %+v, %v; want one", all, err)
	}
	r, err := e.Show(all[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantCode(t testing.TB, err error, code fail.Code, texts ...string) {
	t.Helper()
	if fail.CodeOf(err) != code {
		t.Errorf("exit code %d, want %d: %v", fail.CodeOf(err), code, err)
	}
	for _, s := range texts {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("error %v, want %q in it", err, s)
		}
	}
}

func wantHint(t testing.TB, err error, hint string) {
	t.Helper()
	if !strings.Contains(strings.Join(fail.Hints(err), "\n"), hint) {
		t.Errorf("hints %q, want %q", fail.Hints(err), hint)
	}
}

var errBoom = errors.New("boom")

// failAt makes the apply of one step fail, as long as *on.
func failAt(step string, on *bool) Inject {
	return func(p Point, s string) error {
		if *on && p == BeforeApply && s == step {
			return errBoom
		}
		return nil
	}
}

func stepStates(r *Report) string {
	var l []string
	for _, s := range r.Steps {
		l = append(l, fmt.Sprintf("%s=%s", s.Name, s.State))
	}
	return strings.Join(l, " ")
}

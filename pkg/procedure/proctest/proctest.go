// Package proctest holds every procedure to the same promises. [Matrix] takes a
// plan and, for each of its steps, lets apply fail, loses its answer, crashes
// before and after the effect, repeats apply and undo, lets undo fail, and
// cancels. Whatever happens, the procedure must end done, exactly as before, or
// stuck with a report that can be read.
package proctest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// Fixture is a fresh world and a procedure that works on it.
type Fixture struct {
	Params  json.RawMessage    // of the plan
	Rebuild procedure.Rebuild  // makes the plan, for the first process and the later ones
	Secrets procedure.Resolver // nil if the plan has none
	// Fingerprint describes the world as far as the procedure may touch it, the same
	// for equal worlds of different fixtures: no times, no random names. What an undo
	// leaves on purpose is left out.
	Fingerprint func() (string, error)
}

// Matrix runs every scenario as a subtest, each on a fixture of its own.
func Matrix(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	base, err := baseline(t, newFixture)
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios(base) {
		t.Run(sc.name, func(t *testing.T) {
			if err := sc.try(t, base, newFixture); err != nil {
				t.Error(err)
			}
		})
	}
}

// baseFacts is what an undisturbed run shows.
type baseFacts struct {
	steps         []procedure.StepInfo
	already       []bool // found satisfied before the run began the step
	before, after string
}

// reversible says whether the steps 0 to i of the plan can all be undone.
func (b *baseFacts) reversible(i int) bool {
	for k := range i + 1 {
		if b.steps[k].Irreversible && !b.already[k] {
			return false
		}
	}
	return true
}

// baseline runs the plan undisturbed, twice, to know what is right and that the
// fixture can tell.
func baseline(t *testing.T, newFixture func(t *testing.T) Fixture) (*baseFacts, error) {
	t.Helper()
	first, err := undisturbed(t, newFixture)
	if err != nil {
		return nil, fmt.Errorf("undisturbed run: %w", err)
	}
	second, err := undisturbed(t, newFixture)
	if err != nil {
		return nil, fmt.Errorf("second undisturbed run: %w", err)
	}
	if err := same("before, in another fixture", first.before, second.before); err != nil {
		return nil, err
	}
	if err := same("after, in another fixture", first.after, second.after); err != nil {
		return nil, err
	}
	if first.before == first.after {
		return nil, errors.New("the fingerprint is the same before and after the procedure: it would hide every fault")
	}
	return first, nil
}

func undisturbed(t *testing.T, newFixture func(t *testing.T) Fixture) (*baseFacts, error) {
	t.Helper()
	w, err := newWorld(t, newFixture)
	if err != nil {
		return nil, err
	}
	b := &baseFacts{before: w.before}
	if out := w.start(nil); out.err != nil {
		return nil, out.err
	}
	r, err := w.engine(nil).Show(w.id)
	if err != nil {
		return nil, err
	}
	for _, s := range r.Steps {
		b.steps = append(b.steps, s.StepInfo)
		b.already = append(b.already, s.State == procedure.StateAlready)
	}
	b.after, err = w.fixture.Fingerprint()
	return b, err
}

// world is one fixture in use.
type world struct {
	fixture Fixture
	dir     string
	before  string
	id      string                                // of the run, once there is one
	wrap    func(p procedure.Plan) procedure.Plan // changes the plan's functions, not its texts
	cancel  context.CancelFunc                    // of the invocation at work
}

func newWorld(t *testing.T, newFixture func(t *testing.T) Fixture) (*world, error) {
	t.Helper()
	w := &world{fixture: newFixture(t), dir: t.TempDir(), wrap: func(p procedure.Plan) procedure.Plan { return p }}
	var err error
	w.before, err = w.fixture.Fingerprint()
	return w, err
}

func (w *world) engine(inject procedure.Inject) *procedure.Engine {
	return &procedure.Engine{Dir: w.dir, Inject: inject, Secrets: w.fixture.Secrets, Version: "proctest", By: "proctest"}
}

func (w *world) rebuild(ctx context.Context, params json.RawMessage) (procedure.Plan, error) {
	p, err := w.fixture.Rebuild(ctx, params)
	if err != nil {
		return p, err
	}
	return w.wrap(p), nil
}

// outcome is how an invocation ended: with a result, an error, or a crash.
type outcome struct {
	res     *procedure.Result
	err     error
	crashed bool
}

// crash is what an injected crash panics with.
type crash struct{}

// invoke runs one invocation, as a process of its own would.
func (w *world) invoke(f func(ctx context.Context) (*procedure.Result, error)) (out outcome) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.cancel = cancel
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			out = outcome{crashed: true}
		}
		w.learnID()
	}()
	out.res, out.err = f(ctx)
	return out
}

func (w *world) learnID() {
	if sums, err := w.engine(nil).List(); err == nil && len(sums) == 1 {
		w.id = sums[0].ID
	}
}

func (w *world) start(inject procedure.Inject) outcome {
	return w.invoke(func(ctx context.Context) (*procedure.Result, error) {
		p, err := w.rebuild(ctx, w.fixture.Params)
		if err != nil {
			return nil, err
		}
		a, err := procedure.Confirm(ctx, p, Yes{})
		if err != nil {
			return nil, err
		}
		return w.engine(inject).Start(ctx, p, a)
	})
}

func (w *world) resume(inject procedure.Inject) outcome {
	return w.invoke(func(ctx context.Context) (*procedure.Result, error) {
		return w.engine(inject).Resume(ctx, w.id, w.rebuild, Yes{})
	})
}

func (w *world) undo(inject procedure.Inject) outcome {
	return w.invoke(func(ctx context.Context) (*procedure.Result, error) {
		return w.engine(inject).Undo(ctx, w.id, w.rebuild, Yes{})
	})
}

// ended checks an end state and the world that goes with it.
func (w *world) ended(out outcome, state procedure.State, print string) error {
	switch {
	case out.crashed:
		return fmt.Errorf("crashed, want %s", state)
	case out.err != nil:
		return fmt.Errorf("want %s: %w", state, out.err)
	case out.res.State != state:
		return fmt.Errorf("ended %s, want %s", out.res.State, state)
	}
	got, err := w.fixture.Fingerprint()
	if err != nil {
		return err
	}
	return same(string(state), print, got)
}

// stopped checks that an invocation ended with the code, and that the run it
// left can be read.
func (w *world) stopped(out outcome, code fail.Code, states ...procedure.State) error {
	if !out.crashed && fail.CodeOf(out.err) != code {
		return fmt.Errorf("exit code %d, want %d: %w", fail.CodeOf(out.err), code, out.err)
	}
	r, err := w.engine(nil).Show(w.id)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	for _, s := range states {
		if r.State == s && len(r.Next) > 0 {
			return nil
		}
	}
	return fmt.Errorf("show: state %q with next steps %q, want one of %q", r.State, r.Next, states)
}

// same compares fingerprints and shows the first line that differs.
func same(what, want, got string) error {
	if want == got {
		return nil
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; ; i++ {
		a, b := line(w, i), line(g, i)
		if a != b {
			return fmt.Errorf("%s: the world is not as it should be: line %d is %s, want %s", what, i+1, b, a)
		}
	}
}

func line(l []string, i int) string {
	if i >= len(l) {
		return "missing"
	}
	return fmt.Sprintf("%q", l[i])
}

// Yes is an asker that approves everything.
type Yes struct{}

// Ask returns true.
func (Yes) Ask(context.Context, procedure.Question) (bool, error) { return true, nil }

package proctest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// scenario disturbs the run once and says how it must end.
type scenario struct {
	name string
	play func(w *world, b *baseFacts) error
}

func (sc scenario) try(t *testing.T, b *baseFacts, newFixture func(t *testing.T) Fixture) error {
	t.Helper()
	w, err := newWorld(t, newFixture)
	if err != nil {
		return err
	}
	if err := same("fresh fixture", b.before, w.before); err != nil {
		return err
	}
	return sc.play(w, b)
}

var errInjected = errors.New("injected failure")

// disturbance is what happens at a point of a step, once.
type disturbance struct {
	name  string
	point procedure.Point
	do    func(w *world) error
}

func crashes(*world) error   { panic(crash{}) }
func fails(*world) error     { return errInjected }
func cancels(w *world) error { w.cancel(); return nil }

// forward lists what can happen to a step going forward, backward going back.
func forward() []disturbance {
	return []disturbance{
		{"apply fails", procedure.BeforeApply, fails},
		{"answer of apply lost", procedure.AfterApply, fails},
		{"crash before apply", procedure.BeforeApply, crashes},
		{"crash after the effect", procedure.AfterApply, crashes},
		{"crash after the journal", procedure.AfterJournal, crashes},
		{"cancel before apply", procedure.BeforeApply, cancels},
		{"cancel after apply", procedure.AfterApply, cancels},
	}
}

func backward() []disturbance {
	return []disturbance{
		{"crash before undo", procedure.BeforeUndo, crashes},
		{"crash after the undo", procedure.AfterUndo, crashes},
		{"crash after the journal of undo", procedure.AfterUndoJournal, crashes},
		{"cancel before undo", procedure.BeforeUndo, cancels},
		{"cancel after undo", procedure.AfterUndo, cancels},
	}
}

// at returns the disturbance as an injection for one step, and whether it fired.
func (d disturbance) at(w *world, step string) (procedure.Inject, *bool) {
	fired := new(bool)
	return func(p procedure.Point, name string) error {
		if *fired || p != d.point || name != step {
			return nil
		}
		*fired = true
		return d.do(w)
	}, fired
}

// scenarios generates the matrix from the plan.
func scenarios(b *baseFacts) []scenario {
	var all []scenario
	for i, s := range b.steps {
		if b.already[i] {
			continue // the run does not touch it
		}
		add := func(name string, play func(*world, *baseFacts) error) {
			all = append(all, scenario{fmt.Sprintf("%d %s/%s", i+1, s.Name, name), play})
		}
		for _, d := range forward() {
			add(d.name+", then resume", disturbed(d, i, thenResume))
			add(d.name+", then undo", disturbed(d, i, thenUndo))
		}
		add("apply twice", applyTwice(i))
		if !b.reversible(len(b.steps) - 1) {
			continue
		}
		for _, d := range backward() {
			add(d.name+", then resume", undoDisturbed(d, i))
		}
		add("undo twice", undoTwice(i))
		add("undo fails", undoFails(disturbance{"", procedure.BeforeUndo, fails}, i))
		add("answer of undo lost", undoFails(disturbance{"", procedure.AfterUndo, fails}, i))
	}
	return append(all, scenario{"undo when done", undoDone})
}

// disturbed starts the run, disturbs step i and goes on with then.
func disturbed(d disturbance, i int, then func(*world, *baseFacts, int) error) func(*world, *baseFacts) error {
	return func(w *world, b *baseFacts) error {
		inject, fired := d.at(w, b.steps[i].Name)
		out := w.start(inject)
		if !*fired {
			return fmt.Errorf("step %q was not reached: %w", b.steps[i].Name, out.err)
		}
		if out.err == nil && !out.crashed {
			// A cancel in the last step comes too late if the step takes no notice.
			if i != len(b.steps)-1 {
				return fmt.Errorf("the run went on after %s", d.name)
			}
		} else if err := w.stopped(out, fail.Midway, procedure.Midway); err != nil {
			return err
		}
		return then(w, b, i)
	}
}

func thenResume(w *world, b *baseFacts, _ int) error {
	return w.ended(w.resume(nil), procedure.Done, b.after)
}

// thenUndo goes back, or if an irreversible step has begun makes sure that this
// is refused and the way forward is open.
func thenUndo(w *world, b *baseFacts, i int) error {
	out := w.undo(nil)
	if b.reversible(i) {
		return w.ended(out, procedure.Undone, b.before)
	}
	if fail.CodeOf(out.err) != fail.Refused {
		return fmt.Errorf("undo behind an irreversible step: exit code %d, want %d: %w", fail.CodeOf(out.err), fail.Refused, out.err)
	}
	return thenResume(w, b, i)
}

func undoDone(w *world, b *baseFacts) error {
	if err := w.ended(w.start(nil), procedure.Done, b.after); err != nil {
		return err
	}
	return thenUndo(w, b, len(b.steps)-1)
}

// replaceStep returns the plan with one step changed.
func replaceStep(i int, change func(s *procedure.Step)) func(procedure.Plan) procedure.Plan {
	return func(p procedure.Plan) procedure.Plan {
		p.Steps = append([]procedure.Step(nil), p.Steps...)
		change(&p.Steps[i])
		return p
	}
}

// applyTwice repeats the effect, as a resume does after a crash.
func applyTwice(i int) func(*world, *baseFacts) error {
	return func(w *world, b *baseFacts) error {
		w.wrap = replaceStep(i, func(s *procedure.Step) {
			apply := s.Apply
			s.Apply = func(ctx context.Context, r *procedure.Run) (any, error) {
				if _, err := apply(ctx, r); err != nil {
					return nil, err
				}
				return apply(ctx, r)
			}
		})
		return undoDone(w, b)
	}
}

func undoTwice(i int) func(*world, *baseFacts) error {
	return func(w *world, b *baseFacts) error {
		w.wrap = replaceStep(i, func(s *procedure.Step) {
			undo := s.Undo
			s.Undo = func(ctx context.Context, r *procedure.Run) error {
				if err := undo(ctx, r); err != nil {
					return err
				}
				return undo(ctx, r)
			}
		})
		return undoDone(w, b)
	}
}

// undoDisturbed finishes the run, disturbs its undo at step i and resumes.
func undoDisturbed(d disturbance, i int) func(*world, *baseFacts) error {
	return func(w *world, b *baseFacts) error {
		if err := w.ended(w.start(nil), procedure.Done, b.after); err != nil {
			return err
		}
		inject, fired := d.at(w, b.steps[i].Name)
		out := w.undo(inject)
		if !*fired {
			return fmt.Errorf("undo of step %q was not reached: %w", b.steps[i].Name, out.err)
		}
		if out.err == nil && !out.crashed {
			return w.ended(out, procedure.Undone, b.before) // cancelled too late
		}
		if err := w.stopped(out, fail.Midway, procedure.Undoing); err != nil {
			return err
		}
		return w.ended(w.resume(nil), procedure.Undone, b.before)
	}
}

// undoFails makes the run stuck, reads what it says, and tries again as a human
// would.
func undoFails(d disturbance, i int) func(*world, *baseFacts) error {
	return func(w *world, b *baseFacts) error {
		if err := w.ended(w.start(nil), procedure.Done, b.after); err != nil {
			return err
		}
		inject, fired := d.at(w, b.steps[i].Name)
		out := w.undo(inject)
		if !*fired {
			return fmt.Errorf("undo of step %q was not reached: %w", b.steps[i].Name, out.err)
		}
		if err := w.stopped(out, fail.Stuck, procedure.Stuck); err != nil {
			return err
		}
		r, err := w.engine(nil).Show(w.id)
		if err != nil {
			return err
		}
		if got := r.Steps[i]; got.State != procedure.StateUndoFailed || got.Error == "" {
			return fmt.Errorf("show of the stuck run: step %q is %q with error %q", got.Name, got.State, got.Error)
		}
		if out := w.resume(nil); fail.CodeOf(out.err) != fail.Stuck {
			return fmt.Errorf("resume of the stuck run: exit code %d, want %d: %w", fail.CodeOf(out.err), fail.Stuck, out.err)
		}
		return w.ended(w.undo(nil), procedure.Undone, b.before)
	}
}

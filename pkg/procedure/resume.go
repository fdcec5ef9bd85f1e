package procedure

import (
	"context"
	"fmt"
	"slices"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Resume goes on with a run that stopped midway, in the direction it had. id may
// be a prefix. The plan is made again from the recorded kind and parameters;
// preflight runs on the steps that have not begun, and the asker is asked. A run
// that is done is reported as such, without an error.
func (e *Engine) Resume(ctx context.Context, id string, rebuild Rebuild, a Asker) (*Result, error) {
	x, lock, err := e.reopen(ctx, id, rebuild)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	defer x.close()
	s := x.st()
	switch s.end {
	case "":
	case Done:
		return &Result{ID: x.file.ID, Kind: x.file.Plan.Kind, Target: x.file.Plan.Target, State: Done, Changed: s.changed()}, nil
	case Stuck:
		return nil, stuckAgain(s)
	default:
		return nil, refused("run %s: is %s: nothing to resume", x.file.ID, s.end)
	}
	if !s.backward {
		begun := func(i int) bool { return s.steps[i].state == StatePending }
		if err := e.preflight(ctx, x.plan, x.run, begun); err != nil {
			return nil, err
		}
	}
	if err := ask(ctx, a, x.resumeQuestion(), "declined, nothing changed"); err != nil {
		return nil, err
	}
	by := e.by()
	if err := x.write(Record{Event: EventResumed, By: &by}); err != nil {
		return nil, err
	}
	return x.conduct(ctx, true)
}

// Undo takes back what a run did: one that stopped midway, one that is done, or
// one that is stuck, which is then tried again. id may be a prefix. It refuses
// once an irreversible step has begun, and for a done run if a later run of the
// same target has not been undone first.
func (e *Engine) Undo(ctx context.Context, id string, rebuild Rebuild, a Asker) (*Result, error) {
	x, lock, err := e.reopen(ctx, id, rebuild)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	defer x.close()
	if err := e.undoable(x.st()); err != nil {
		return nil, err
	}
	if err := ask(ctx, a, x.undoQuestion(), "declined, nothing changed"); err != nil {
		return nil, err
	}
	by := e.by()
	if err := x.write(Record{Event: EventUndoing, By: &by}); err != nil {
		return nil, err
	}
	return x.conduct(ctx, true)
}

// undoable says why a run cannot be undone.
func (e *Engine) undoable(s *state) error {
	id := s.plan.ID
	if i := s.noReturn(); i >= 0 {
		err := refused("run %s: step %s cannot be undone and has begun: the run only goes forward", id, s.plan.Plan.position(i))
		if s.end == "" {
			err = fail.Hint(err, "tritonops runs resume %s", id)
		}
		return err
	}
	switch s.end {
	case Undone, Abandoned:
		return refused("run %s: is %s: nothing to undo", id, s.end)
	case Done:
		return e.newestOf(s)
	}
	return nil
}

// newestOf refuses to pull a run out from under later ones.
func (e *Engine) newestOf(s *state) error {
	all, err := e.List()
	if err != nil {
		return err
	}
	for _, o := range slices.Backward(all) { // the newest must go first
		if o.ID == s.plan.ID || o.Target != s.plan.Plan.Target || o.Created.Before(s.plan.Created) || o.State == Undone {
			continue
		}
		err := refused("run %s: run %s of the same target came later and is %s", s.plan.ID, o.ID, o.State)
		return fail.Hint(err, "tritonops runs undo %s", o.ID)
	}
	return nil
}

// reopen locks the target of a run and opens its journal with the plan made
// again. The caller releases the lock and closes the execution.
func (e *Engine) reopen(ctx context.Context, id string, rebuild Rebuild) (*execution, *durable.Lock, error) {
	f, lock, err := e.take(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	x, err := e.revive(ctx, f, rebuild)
	if err != nil {
		lock.Release()
		return nil, nil, err
	}
	return x, lock, nil
}

// take finds a run and locks its target.
func (e *Engine) take(ctx context.Context, id string) (*planFile, *durable.Lock, error) {
	if err := interrupted(ctx); err != nil {
		return nil, nil, err
	}
	full, err := e.Match(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := loadPlan(e.path(full))
	if err != nil {
		return nil, nil, fmt.Errorf("run %s: %w", full, err)
	}
	lock, err := e.lock(ctx, f.Plan)
	if err != nil {
		return nil, nil, err
	}
	// Read again: another process may have forgotten the run before we had the lock.
	if f, err = loadPlan(e.path(full)); err != nil {
		lock.Release()
		return nil, nil, fmt.Errorf("run %s: %w", full, err)
	}
	return f, lock, nil
}

func (e *Engine) revive(ctx context.Context, f *planFile, rebuild Rebuild) (*execution, error) {
	if _, _, err := loadJournal(e.path(f.ID), f); err != nil {
		return nil, fmt.Errorf("run %s: %w", f.ID, err)
	}
	if rebuild == nil {
		return nil, refused("run %s: this program does not know the kind %q", f.ID, f.Plan.Kind)
	}
	p, err := rebuild(ctx, f.Plan.Params)
	if err != nil {
		return nil, fmt.Errorf("run %s: plan not made again: %w", f.ID, err)
	}
	p = p.adopt(f.Plan)
	if err := p.validate(); err != nil {
		return nil, err
	}
	if err := sameAs(f, p.document()); err != nil {
		return nil, err
	}
	sec, err := e.resolve(ctx, f.Plan)
	if err != nil {
		return nil, err
	}
	return e.open(p, f, sec)
}

// sameAs refuses a rebuilt plan that is not the approved one.
func sameAs(f *planFile, d document) error {
	switch {
	case d.Kind != f.Plan.Kind:
		return refused("run %s: is of kind %q, not %q", f.ID, f.Plan.Kind, d.Kind)
	case d.Target != f.Plan.Target:
		return refused("run %s: its target is %s, here it would be %s", f.ID, f.Plan.Target, d.Target)
	case d.digest() != f.Digest:
		return refused("run %s: the plan is no longer the one that was approved: recorded by version %q with digest %s, here it is %s",
			f.ID, f.By.Tool, f.Digest, d.digest())
	}
	return nil
}

func stuckAgain(s *state) error {
	for i, st := range s.steps {
		if st.state == StateUndoFailed {
			return stuckError(s.plan, i, st.err, nil)
		}
	}
	return refused("run %s: is stuck", s.plan.ID)
}

// resumeQuestion shows what is left to do.
func (x *execution) resumeQuestion() Question {
	if x.st().backward {
		return x.undoQuestion()
	}
	q := Question{Title: fmt.Sprintf("resume run %s: %s", x.file.ID, x.file.Plan.Title), TypeName: x.file.Plan.TypeName}
	for i, s := range x.file.Plan.Steps {
		line := s.Line
		switch x.st().steps[i].state {
		case StateSucceeded, StateAlready:
			continue
		case StateStarted:
			line += " (had begun; outcome unknown)"
		case StateFailed, StateUnchanged:
			line += " (failed before)"
		}
		q.Lines = append(q.Lines, line)
		if s.Irreversible {
			q.Irreversible = append(q.Irreversible, line)
		}
	}
	return q
}

// undoQuestion shows what is going to be undone, in the order it will be.
func (x *execution) undoQuestion() Question {
	q := Question{Title: fmt.Sprintf("undo run %s: %s", x.file.ID, x.file.Plan.Title), TypeName: x.file.Plan.TypeName}
	for i := len(x.file.Plan.Steps) - 1; i >= 0; i-- {
		s := x.file.Plan.Steps[i]
		switch st := x.st().steps[i].state; {
		case !st.touched():
			continue
		case st == StateStarted && !x.plan.Steps[i].UndoCopes:
			q.Lines = append(q.Lines, "finish, then undo: "+s.Line)
		default:
			q.Lines = append(q.Lines, "undo: "+s.Line)
		}
		if s.Leaves != "" {
			q.Lines = append(q.Lines, "leave in place: "+s.Leaves)
		}
	}
	return q
}

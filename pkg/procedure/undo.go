package procedure

import (
	"context"
	"errors"
	"fmt"

	"github.com/tritonops/tritonops/pkg/fail"
)

// backward undoes what this run did, the last step first.
func (x *execution) backward(ctx context.Context) error {
	for i := len(x.plan.Steps) - 1; i >= 0; i-- {
		if !x.st().steps[i].state.touched() {
			continue
		}
		if ctx.Err() != nil {
			return x.interrupt(ctx, i, nil)
		}
		if err := x.undoStep(ctx, i); err != nil {
			return err
		}
	}
	return x.write(Record{Event: EventEnded, End: Undone})
}

// undoStep undoes step i. One whose outcome is unknown is finished first, so
// that Undo meets a known state; if that fails, or is not worth the while, Undo
// has to cope with a part.
func (x *execution) undoStep(ctx context.Context, i int) error {
	x.run.enter(i)
	defer x.run.enter(-1)
	if x.st().steps[i].state == StateStarted {
		if err := x.finishFirst(ctx, i); err != nil {
			return err
		}
		if !x.st().steps[i].state.touched() {
			return nil // the step found out that it had changed nothing
		}
	}
	if x.st().steps[i].state != StateUndoing {
		if err := x.write(Record{Event: EventUndoStarted, Step: x.name(i)}); err != nil {
			return err
		}
	}
	ref, name := x.run.refOf(i), x.name(i)
	x.e.emit(UndoStarted{ref})
	began := x.e.now()
	err := x.undo(ctx, i)
	took := x.since(began)
	if err != nil {
		if ctx.Err() != nil {
			return x.interrupt(ctx, i, err)
		}
		text := x.run.secrets.text(err.Error())
		if err := x.write(Record{Event: EventUndoFailed, Step: name, Error: text}); err != nil {
			return err
		}
		x.e.emit(UndoFailed{StepRef: ref, Error: text, Took: took})
		return x.stuck(i, err)
	}
	if err := x.write(Record{Event: EventUndone, Step: name}); err != nil {
		return err
	}
	x.e.emit(UndoDone{StepRef: ref, Leaves: x.file.Plan.Steps[i].Leaves, Took: took})
	return x.quietly(AfterUndoJournal, name)
}

func (x *execution) undo(ctx context.Context, i int) error {
	if err := x.e.inject(BeforeUndo, x.name(i)); err != nil {
		return err
	}
	if err := x.plan.Steps[i].Undo(ctx, x.run); err != nil {
		return err
	}
	return x.e.inject(AfterUndo, x.name(i))
}

// finishFirst gives a step of unknown outcome an outcome. A failure is one too.
func (x *execution) finishFirst(ctx context.Context, i int) error {
	if x.plan.Steps[i].UndoCopes {
		return x.write(Record{Event: EventFailed, Step: x.name(i), Error: "cut off, and not finished before its undo"})
	}
	ok, out, err := x.satisfied(ctx, i)
	if err != nil {
		if ctx.Err() != nil {
			return x.interrupt(ctx, i, err)
		}
		return x.stopped(i, err)
	}
	err = x.finish(ctx, i, ok, out)
	var je *journalError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &je):
		return err
	case ctx.Err() != nil:
		return x.interrupt(ctx, i, err)
	}
	return nil
}

// stuck ends the run: nothing more is tried.
func (x *execution) stuck(i int, cause error) error {
	if err := x.write(Record{Event: EventEnded, End: Stuck}); err != nil {
		return err
	}
	return stuckError(x.file, i, x.run.secrets.text(cause.Error()), cause)
}

// stuckError says at which undo a run is stuck and what can be done about it.
func stuckError(f *planFile, i int, text string, cause error) error {
	text = fmt.Sprintf("run %s: stuck: undo of step %s: %s", f.ID, f.Plan.position(i), text)
	err := fail.As(fail.Stuck, &opError{text: text, err: cause})
	err = fail.Hint(err, "tritonops runs show %s", f.ID)
	err = fail.Hint(err, "tritonops runs undo %s", f.ID)
	return fail.Hint(err, "tritonops runs abandon %s", f.ID)
}

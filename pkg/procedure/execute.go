package procedure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

// execution is one invocation's work on a run whose target it has locked.
type execution struct {
	e    *Engine
	plan Plan
	file *planFile
	run  *Run

	started time.Time
	dropped bool // the run was removed, since nothing had begun
}

func (x *execution) close() { x.run.j.f.Close() }

// st is the state by the journal; only this goroutine writes it.
func (x *execution) st() *state { return x.run.j.state }

// conduct carries the run on in its direction until it ends or stops.
func (x *execution) conduct(ctx context.Context, resumed bool) (*Result, error) {
	x.started = x.e.now()
	d := x.file.Plan
	x.e.emit(RunStarted{Run: x.file.ID, Kind: d.Kind, Target: d.Target, Title: d.Title, Of: len(d.Steps), Direction: x.st().heading(), Resumed: resumed})
	var err error
	if x.st().backward {
		err = x.backward(ctx)
	} else {
		err = x.forward(ctx)
	}
	if err != nil && !x.st().began && !resumed {
		if derr := x.drop(); derr != nil {
			err = fmt.Errorf("%w (and %w)", err, derr)
		}
	}
	return x.result(err)
}

// result sums the invocation up for its caller and for the observer.
func (x *execution) result(err error) (*Result, error) {
	took := x.since(x.started)
	ended := RunEnded{Run: x.file.ID, State: x.st().state(), Took: took}
	if err != nil {
		ended.Error = err.Error()
	}
	if ended.State == Undone {
		ended.Leaves = x.leaves()
	}
	if x.dropped {
		ended.Run, ended.State = "", Undone
		x.e.emit(ended)
		return nil, err
	}
	x.e.emit(ended)
	return &Result{
		ID: x.file.ID, Kind: x.file.Plan.Kind, Target: x.file.Plan.Target,
		State: ended.State, Changed: x.st().changed(), Leaves: ended.Leaves, Took: took,
	}, err
}

// leaves lists what the undone steps left on purpose.
func (x *execution) leaves() []string {
	var l []string
	for i, s := range x.file.Plan.Steps {
		if s.Leaves != "" && x.st().steps[i].state == StateUndone {
			l = append(l, s.Leaves)
		}
	}
	return l
}

// drop removes a run that never began anything.
func (x *execution) drop() error {
	if err := x.e.remove(x.file.ID); err != nil {
		return fmt.Errorf("run %s: began nothing and could not be removed: %w", x.file.ID, err)
	}
	x.dropped = true
	return nil
}

func (x *execution) forward(ctx context.Context) error {
	for i := range x.plan.Steps {
		if s := x.st().steps[i].state; s == StateSucceeded || s == StateAlready {
			continue
		}
		if ctx.Err() != nil {
			return x.interrupt(ctx, i, nil)
		}
		if err := x.step(ctx, i); err != nil {
			return err
		}
	}
	return x.write(Record{Event: EventEnded, End: Done})
}

// step brings step i from wherever it stands to success.
func (x *execution) step(ctx context.Context, i int) error {
	x.run.enter(i)
	defer x.run.enter(-1)
	ok, out, err := x.satisfied(ctx, i)
	if err != nil {
		if ctx.Err() != nil {
			return x.interrupt(ctx, i, err)
		}
		return x.stopped(i, err)
	}
	st := x.st().steps[i].state
	if ok && (st == StatePending || st == StateUnchanged) {
		if err := x.write(Record{Event: EventSucceeded, Step: x.name(i), Already: true, Output: out}); err != nil {
			return err
		}
		x.e.emit(StepDone{StepRef: x.run.refOf(i), Already: true})
		return nil
	}
	if st != StateStarted {
		if err := x.write(Record{Event: EventStarted, Step: x.name(i)}); err != nil {
			return err
		}
	}
	if err := x.finish(ctx, i, ok, out); err != nil {
		return x.failed(ctx, i, err)
	}
	return nil
}

// satisfied asks the step, and encodes what it would have returned.
func (x *execution) satisfied(ctx context.Context, i int) (bool, json.RawMessage, error) {
	if x.plan.Steps[i].Satisfied == nil {
		return false, nil, nil
	}
	ok, v, err := x.plan.Steps[i].Satisfied(ctx, x.run)
	if err != nil || !ok {
		return false, nil, err
	}
	out, err := x.encode(v)
	return true, out, err
}

func (x *execution) encode(v any) (json.RawMessage, error) {
	out, err := x.run.secrets.encode(v)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	if len(out) > maxOutput {
		return nil, fmt.Errorf("output: %d bytes, more than %d", len(out), maxOutput)
	}
	return out, nil
}

// journalError is an error of the journal itself: nothing more can be recorded.
type journalError struct{ err error }

func (e *journalError) Error() string { return e.err.Error() }
func (e *journalError) Unwrap() error { return e.err }

// finish takes a started step to its outcome: apply unless it is done, verify,
// record. An error that is no journalError or cancel is recorded as the outcome.
func (x *execution) finish(ctx context.Context, i int, done bool, out json.RawMessage) error {
	s, ref, name := x.plan.Steps[i], x.run.refOf(i), x.name(i)
	x.e.emit(StepStarted{ref})
	began := x.e.now()
	var err error
	if !done {
		out, err = x.apply(ctx, i)
	}
	if err == nil && s.Verify != nil {
		x.run.produced(out)
		if err = s.Verify(ctx, x.run); err != nil {
			err = fmt.Errorf("not verified: %w", err)
		}
	}
	took := x.since(began)
	if err == nil {
		if err := x.write(Record{Event: EventSucceeded, Step: name, Output: out}); err != nil {
			return err
		}
		x.e.emit(StepDone{StepRef: ref, Took: took})
		return x.quietly(AfterJournal, name)
	}
	if ctx.Err() != nil {
		return err // outcome unknown; the caller notes the interrupt
	}
	text := x.run.secrets.text(err.Error())
	var same *unchangedError
	if werr := x.write(Record{Event: EventFailed, Step: name, Error: text, Unchanged: errors.As(err, &same)}); werr != nil {
		return werr
	}
	x.e.emit(StepFailed{StepRef: ref, Error: text, Took: took})
	return err
}

func (x *execution) since(t time.Time) Elapsed { return Elapsed(x.e.now().Sub(t)) }

// quietly passes a point at which only a crash makes sense.
func (x *execution) quietly(p Point, step string) error {
	_ = x.e.inject(p, step)
	return nil
}

func (x *execution) apply(ctx context.Context, i int) (json.RawMessage, error) {
	if err := x.e.inject(BeforeApply, x.name(i)); err != nil {
		return nil, err
	}
	v, err := x.plan.Steps[i].Apply(ctx, x.run)
	if err != nil {
		return nil, err
	}
	if err := x.e.inject(AfterApply, x.name(i)); err != nil {
		return nil, err
	}
	return x.encode(v)
}

func (x *execution) name(i int) string { return x.file.Plan.Steps[i].Name }

// write records an event. Its error ends the invocation.
func (x *execution) write(r Record) error {
	if err := x.run.write(r); err != nil {
		err = &journalError{fmt.Errorf("run %s: %w", x.file.ID, err)}
		if !x.st().began {
			return fail.As(fail.Failed, err)
		}
		return x.resumable(fail.As(fail.Midway, err))
	}
	return nil
}

// failed is the error of a step whose failure is recorded, or of what kept it
// from being recorded.
func (x *execution) failed(ctx context.Context, i int, err error) error {
	var je *journalError
	if errors.As(err, &je) {
		return err
	}
	if ctx.Err() != nil {
		return x.interrupt(ctx, i, err)
	}
	text := x.run.secrets.text(fmt.Sprintf("run %s: step %s failed: %s", x.file.ID, x.file.Plan.position(i), err))
	op := &opError{text: text, err: err}
	if !x.st().changed() {
		// The step promised that it changed nothing, and nothing came before it.
		if err := x.write(Record{Event: EventEnded, End: Undone}); err != nil {
			return err
		}
		return fail.As(keptCode(err), op)
	}
	return x.resumable(fail.As(fail.Midway, op))
}

// stopped is the error of a step that could not even be examined.
func (x *execution) stopped(i int, err error) error {
	text := x.run.secrets.text(fmt.Sprintf("run %s: step %s could not be examined: %s", x.file.ID, x.file.Plan.position(i), err))
	op := &opError{text: text, err: err}
	if !x.st().began {
		return fail.As(keptCode(err), op)
	}
	if err := x.write(Record{Event: EventStopped, Step: x.name(i), Error: x.run.secrets.text(err.Error())}); err != nil {
		return err
	}
	return x.resumable(fail.As(fail.Midway, op))
}

// interrupt notes a cancel at step i. What had begun has an unknown outcome.
func (x *execution) interrupt(ctx context.Context, i int, cause error) error {
	if !x.st().began {
		return interrupted(ctx)
	}
	text := ""
	if cause != nil {
		text = x.run.secrets.text(fail.Text(cause))
	}
	if err := x.write(Record{Event: EventInterrupted, Step: x.name(i), Error: text}); err != nil {
		return err
	}
	what := fmt.Sprintf("interrupted before step %s", x.file.Plan.position(i))
	switch x.st().steps[i].state {
	case StateStarted:
		what = fmt.Sprintf("step %s stopped after it began; outcome unknown", x.file.Plan.position(i))
	case StateUndoing:
		what = fmt.Sprintf("undo of step %s stopped after it began; outcome unknown", x.file.Plan.position(i))
	case StateSucceeded, StateFailed, StateUndoFailed:
		if !x.st().backward {
			break
		}
		what = fmt.Sprintf("interrupted before the undo of step %s", x.file.Plan.position(i))
	}
	return x.resumable(fail.As(fail.Midway, &opError{text: fmt.Sprintf("run %s: %s", x.file.ID, what), err: ctx.Err()}))
}

// resumable adds the ways on.
func (x *execution) resumable(err error) error {
	err = fail.Hint(err, "tritonops runs resume %s", x.file.ID)
	if !x.st().backward && x.st().noReturn() < 0 {
		err = fail.Hint(err, "tritonops runs undo %s", x.file.ID)
	}
	return err
}

package ui

import (
	"context"
	"errors"
	"io"

	"github.com/tritonops/tritonops/pkg/fail"
	"golang.org/x/term"
)

// errInterrupt is an asker's word for Ctrl-C or end of input at a question.
var errInterrupt = errors.New("interrupted")

// ask puts one question and returns when it is answered or ctx ends. A terminal
// read cannot be cancelled: then the goroutine is left behind, which is sound
// because an ended ctx ends the command, and the terminal is put back as it was.
func ask[T any](ctx context.Context, t tty, put func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, interrupted(err)
	}
	fd := int(t.in.Fd())
	state, stateErr := term.GetState(fd)
	answered := make(chan answer, 1)
	go func() {
		v, err := put()
		answered <- answer{v, err}
	}()
	select {
	case a := <-answered:
		switch {
		case errors.Is(a.err, errInterrupt), errors.Is(a.err, io.EOF):
			return none, interrupted(errInterrupt)
		case a.err != nil:
			return none, fail.New(fail.Failed, "prompt: %w", a.err)
		}
		return a.value, nil
	case <-ctx.Done():
		if stateErr == nil {
			_ = term.Restore(fd, state) // nothing better can be done on the way out
		}
		return none, interrupted(ctx.Err())
	}
}

func interrupted(cause error) error {
	return fail.New(fail.Interrupted, "%w at the question", cause)
}

// noTTY refuses every question: it never reads a pipe and never writes to one.
type noTTY struct{}

func (noTTY) Confirm(_ context.Context, q Question) (bool, error) { return false, refuse(q) }
func (noTTY) TypeName(_ context.Context, q Question, _ string) (bool, error) {
	return false, refuse(q)
}
func (noTTY) Input(_ context.Context, q Question) (string, error)    { return "", refuse(q) }
func (noTTY) Password(_ context.Context, q Question) (string, error) { return "", refuse(q) }
func (noTTY) Select(_ context.Context, q Question, _ []string) (string, error) {
	return "", refuse(q)
}

func refuse(q Question) error {
	err := fail.New(fail.Refused, "cannot ask %q: stdin and stderr are not both a terminal", Clean(q.Text))
	if q.Flag == "" {
		return err
	}
	return fail.Hint(err, "answer on the command line: %s", q.Flag)
}

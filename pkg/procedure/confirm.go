package procedure

import (
	"context"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Question is what an operator must see before anything changes.
type Question struct {
	Title        string   // one line
	Lines        []string // what will happen, in order
	Irreversible []string // those of Lines that cannot be undone
	TypeName     string   // to be typed instead of "yes"; "" for a plain yes or no
}

// Asker puts a question to whoever decides: a prompt, a --yes flag, a test. It
// returns false for no, and an error when nobody could be asked.
type Asker interface {
	Ask(ctx context.Context, q Question) (bool, error)
}

// Approval is the proof that the plan with this digest was shown and approved.
// Only [Confirm] makes one.
type Approval struct{ digest string }

// Question returns what has to be asked about the plan.
func (p Plan) Question() Question {
	q := Question{Title: p.Title, TypeName: p.TypeName}
	for _, s := range p.Steps {
		q.Lines = append(q.Lines, s.Line)
		if s.Irreversible {
			q.Irreversible = append(q.Irreversible, s.Line)
		}
	}
	return q
}

// Confirm shows the plan and asks. A no is an error with code Refused.
func Confirm(ctx context.Context, p Plan, a Asker) (Approval, error) {
	if err := p.validate(); err != nil {
		return Approval{}, err
	}
	if err := ask(ctx, a, p.Question(), "declined, nothing changed"); err != nil {
		return Approval{}, err
	}
	return Approval{digest: p.Digest()}, nil
}

// ask returns nil for yes and the error to end with otherwise.
func ask(ctx context.Context, a Asker, q Question, declined string) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	if a == nil {
		return refused("%s: nobody to ask", q.Title)
	}
	ok, err := a.Ask(ctx, q)
	switch {
	case err != nil && (ctx.Err() != nil || fail.CodeOf(err) == fail.Interrupted):
		return fail.New(fail.Interrupted, "interrupted at the question, nothing changed")
	case err != nil:
		return err
	case !ok:
		return fail.New(fail.Refused, "%s", declined)
	}
	return nil
}

// interrupted is the error of a cancel that came before anything had begun.
func interrupted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fail.As(fail.Interrupted, &opError{text: "interrupted, nothing had begun", err: err})
	}
	return nil
}

package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Mutation are the flags of every command that changes something.
type Mutation struct {
	DryRun  bool   // show the plan, change nothing
	Yes     bool   // answer yes-or-no questions with yes
	Confirm string // answer to "type the name"
}

// AddFlags binds -n, -y and --confirm. Destructive says whether the command
// ever asks for a name; without it there is no --confirm.
func (m *Mutation) AddFlags(cmd *cobra.Command, destructive bool) {
	f := cmd.Flags()
	f.BoolVarP(&m.DryRun, "dry-run", "n", false, "show what would change and change nothing")
	f.BoolVarP(&m.Yes, "yes", "y", false, "answer yes-or-no questions with yes; checks still hold")
	if destructive {
		f.StringVar(&m.Confirm, "confirm", "", "answer to a question that wants `NAME` typed")
	}
}

// Asker returns the asker that [procedure.Confirm] wants. It shows the plan on
// stderr and then asks: a plain question is answered by --yes, one that wants a
// name typed only by --confirm NAME; without an answer and without a terminal
// it refuses.
func (e *Env) Asker(m *Mutation) procedure.Asker { return asker{e, m} }

type asker struct {
	env *Env
	m   *Mutation
}

// Ask implements procedure.Asker.
func (a asker) Ask(ctx context.Context, q procedure.Question) (bool, error) {
	if a.m.Confirm != "" && q.TypeName != "" && a.m.Confirm != q.TypeName {
		return false, fail.New(fail.Refused, "--confirm %s: the target is %s, nothing changed", a.m.Confirm, q.TypeName)
	}
	answered := q.TypeName == "" && a.m.Yes || q.TypeName != "" && a.m.Confirm == q.TypeName
	if a.show(answered) {
		fmt.Fprint(a.env.UI.Err(), PlanText(q, a.env.UI.ErrPaint()))
	}
	switch {
	case answered:
		return true, nil
	case q.TypeName != "":
		return a.env.Prompter().TypeName(ctx, ui.Question{Text: "Go on?", Flag: "--confirm " + q.TypeName}, q.TypeName)
	}
	return a.env.Prompter().Confirm(ctx, ui.Question{Text: "Go on?", Flag: "--yes"})
}

// show says whether the plan is printed before the question: always where
// somebody is going to answer it; otherwise not with -q, and not where stderr is
// to hold one JSON error (--dry-run -j is the plan as JSON).
func (a asker) show(answered bool) bool {
	switch {
	case !answered && a.env.UI.CanPrompt():
		return true
	case a.env.UI.Quiet():
		return false
	}
	return answered || !a.env.Globals.WantsJSON()
}

// PlanText renders what a plan will do, for the question and for --dry-run:
// the title, the steps in order, those without a way back marked.
func PlanText(q procedure.Question, p ui.Paint) string {
	var b strings.Builder
	fmt.Fprintln(&b, p.Text(ui.Strong, ui.Clean(q.Title)))
	for i, l := range q.Lines {
		fmt.Fprintf(&b, "%4d. %s", i+1, ui.Clean(l))
		if slices.Contains(q.Irreversible, l) {
			b.WriteString("  " + p.Text(ui.Caution, "(cannot be undone)"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Secrets returns the resolver that the procedure engine wants: secrets come
// from a prompt, a file or the environment, and whatever comes is cut out of
// all further output.
func (e *Env) Secrets() procedure.Resolver { return resolver{e} }

type resolver struct{ env *Env }

// Secret implements procedure.Resolver.
func (r resolver) Secret(ctx context.Context, ref procedure.SecretRef) (string, error) {
	var value string
	switch ref.From {
	case procedure.FromPrompt:
		return r.env.Prompter().Password(ctx, ui.Question{Text: ref.Prompt, Flag: ref.Flag})
	case procedure.FromFile:
		b, err := os.ReadFile(ref.Source)
		if err != nil {
			return "", err
		}
		value = strings.TrimRight(string(b), "\r\n")
	case procedure.FromEnv:
		value = r.env.Getenv(ref.Source)
		if value == "" {
			return "", fail.New(fail.Refused, "environment variable %s: not set", ref.Source)
		}
	}
	r.env.UI.Redactor.Add(value)
	return value, nil
}

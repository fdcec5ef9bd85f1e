package runs

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// errDryRun stands for the answer to a question that a dry run only shows.
var errDryRun = errors.New("dry run")

// plan is a question as the JSON answer of a dry run.
type plan struct {
	Title        string   `json:"title"`
	Lines        []string `json:"lines"`
	Irreversible []string `json:"irreversible"`
}

// dryAsker keeps the question and answers it with errDryRun.
type dryAsker struct{ q *procedure.Question }

// Ask implements procedure.Asker.
func (a dryAsker) Ask(_ context.Context, q procedure.Question) (bool, error) {
	*a.q = q
	return false, errDryRun
}

// asker returns who is asked, and a function that takes the verb's error and
// prints the question if this was a dry run that got as far as asking.
func (o *options) asker() (procedure.Asker, func(err error) (shown bool, _ error)) {
	if !o.DryRun {
		return o.env.Asker(&o.Mutation), func(error) (bool, error) { return false, nil }
	}
	var q procedure.Question
	return dryAsker{&q}, func(err error) (bool, error) {
		if !errors.Is(err, errDryRun) {
			return false, nil
		}
		answer := plan{Title: q.Title, Lines: append([]string{}, q.Lines...), Irreversible: append([]string{}, q.Irreversible...)}
		return true, o.env.PrintText(answer, func(u *ui.UI) error {
			_, err := fmt.Fprint(u.Out(), cli.PlanText(q, u.OutPaint()))
			return err
		})
	}
}

// complete offers the ids of runs in the wanted states, with what they are. max
// is the number of arguments, -1 for any.
func (o *options) complete(want func(procedure.State) bool, max int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if max >= 0 && len(args) >= max {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := engine(o.env).List()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []cobra.Completion
		for _, s := range all {
			if want(s.State) {
				ids = append(ids, cobra.CompletionWithDesc(s.ID, ui.Clean(fmt.Sprintf("%s, %s of %s", s.State, s.Kind, s.Target))))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

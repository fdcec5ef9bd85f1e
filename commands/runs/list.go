package runs

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// states are the values of --state.
func states() []string {
	var l []string
	for _, s := range []procedure.State{
		procedure.Running, procedure.Midway, procedure.Undoing, procedure.Stuck,
		procedure.Done, procedure.Undone, procedure.Abandoned, procedure.Damaged,
	} {
		l = append(l, string(s))
	}
	return l
}

type listOptions struct {
	*options

	States []string
}

func newList(shared *options) *cobra.Command {
	o := &listOptions{options: shared}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List runs",
		Long: cli.Long(`
List the runs recorded on this machine, the oldest first: where each stands, what
it works on, and since when. Runs that cannot be read are listed as damaged.

The states: running (a process has it); midway and undoing (stopped going forward
or back, can be resumed); stuck (an undo failed: nothing more is tried until a
human decides); done, undone, abandoned; damaged.`, cli.Anywhere, fail.Usage),
		Example: `  tritonops runs list
  tritonops runs list --state midway,stuck -H`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.run() },
	}
	cmd.Flags().StringSliceVar(&o.States, "state", nil, "only runs in these `STATES`")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *listOptions) run() error {
	for _, s := range o.States {
		if !slices.Contains(states(), s) {
			return fail.New(fail.Usage, "--state %s: not a state of a run: want %s", s, strings.Join(states(), ", "))
		}
	}
	all, err := engine(o.env).List()
	if err != nil {
		return err
	}
	if len(o.States) > 0 {
		all = slices.DeleteFunc(all, func(s procedure.Summary) bool { return !slices.Contains(o.States, string(s.State)) })
	}
	if len(all) == 0 && len(o.States) == 0 {
		o.env.UI.Say("no runs in %s", engine(o.env).Dir)
	}
	return o.env.Print(all, func(t *ui.Table) { renderList(t, all) })
}

package runs

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// carryCodes are the exit codes of verbs that carry a run on.
func carryCodes() []fail.Code {
	return []fail.Code{fail.Failed, fail.Usage, fail.Refused, fail.Midway, fail.Stuck, fail.Held, fail.Unreachable, fail.Interrupted}
}

func newResume(shared *options) *cobra.Command {
	o := &options{env: shared.env, kinds: shared.kinds}
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Go on with a run that stopped midway",
		Long: cli.Long(`
Go on with a run that stopped, in the direction it had: forward, or back if it was
being undone. A step that had begun without an outcome is looked at first and then
finished; steps that have not begun are checked again. Secrets are asked for again.

With -j every event is one line of JSON on stdout, the last one "run_ended".`,
			cli.Anywhere, carryCodes()...),
		Example: `  tritonops runs resume 8f2c
  tritonops runs resume 8f2c --dry-run`,
		Args:              cli.Args("RUN"),
		ValidArgsFunction: o.complete(func(s procedure.State) bool { return s == procedure.Midway || s == procedure.Undoing }, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.carry(cmd.Context(), args[0], (*procedure.Engine).Resume)
		},
	}
	o.AddFlags(cmd, true)
	return cmd
}

func newUndo(shared *options) *cobra.Command {
	o := &options{env: shared.env, kinds: shared.kinds}
	cmd := &cobra.Command{
		Use:   "undo RUN",
		Short: "Take back what a run did",
		Long: cli.Long(`
Undo the steps of a run, the last one first: of one that stopped midway, of one
that is done, or of one that is stuck, whose failed undo is then tried again. Only
what the run itself made is removed; what it leaves on purpose is listed.

Refused once a step that cannot be undone has begun, and for a run that is done if
a later run of the same target has not been undone first. A run that has turned
back stays on its way back.

With -j every event is one line of JSON on stdout, the last one "run_ended".`,
			cli.Anywhere, carryCodes()...),
		Example: `  tritonops runs undo 8f2c --dry-run
  tritonops runs undo 8f2c`,
		Args: cli.Args("RUN"),
		ValidArgsFunction: o.complete(func(s procedure.State) bool {
			return s == procedure.Midway || s == procedure.Undoing || s == procedure.Stuck || s == procedure.Done
		}, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.carry(cmd.Context(), args[0], (*procedure.Engine).Undo)
		},
	}
	o.AddFlags(cmd, true)
	return cmd
}

// carry resumes or undoes a run. Its answer are the events.
func (o *options) carry(ctx context.Context, id string, verb func(*procedure.Engine, context.Context, string, procedure.Rebuild, procedure.Asker) (*procedure.Result, error)) error {
	e := engine(o.env)
	if !o.DryRun {
		e.Observer = observer(o.env, o.env.Globals.WantsJSON())
	}
	r, err := e.Show(id)
	if err != nil {
		return err
	}
	asker, show := o.asker()
	res, err := verb(e, ctx, r.ID, o.kinds[r.Kind], asker)
	if shown, err := show(err); shown {
		return err
	}
	if err != nil {
		return err
	}
	if r.State == procedure.Done && res.State == procedure.Done {
		o.env.UI.Say("run %s: is done, nothing to resume", r.ID)
	}
	return nil
}

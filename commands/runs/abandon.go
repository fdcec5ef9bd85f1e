package runs

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newAbandon(shared *options) *cobra.Command {
	o := &options{env: shared.env, kinds: shared.kinds}
	cmd := &cobra.Command{
		Use:   "abandon RUN",
		Short: "Give a run up without touching anything",
		Long: cli.Long(`
Give up a run that stopped midway or is stuck, so that its target is free for
another one. Nothing is changed but the run's journal; what state each step is left
in is shown. An abandoned run can be neither resumed nor undone.`,
			cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Held, fail.Interrupted),
		Example: `  tritonops runs abandon 8f2c`,
		Args:    cli.Args("RUN"),
		ValidArgsFunction: o.complete(func(s procedure.State) bool {
			return s == procedure.Midway || s == procedure.Undoing || s == procedure.Stuck
		}, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asker, show := o.asker()
			r, err := engine(o.env).Abandon(cmd.Context(), args[0], asker)
			if shown, err := show(err); shown {
				return err
			}
			if err != nil {
				return err
			}
			return o.env.PrintText(r, func(u *ui.UI) error { return renderShow(u, r) })
		},
	}
	o.AddFlags(cmd, false)
	return cmd
}

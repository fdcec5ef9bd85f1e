package runs

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newShow(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show what a run did and where it stands",
		Long: cli.Long(`
Show a run: its steps with their states, times and errors, who started and resumed
it, and the commands that make sense now. Artifacts (old values, snapshots) are
named and never shown. With -v and in JSON the steps' outputs and the parameters
are shown too.`, cli.Anywhere, fail.Usage, fail.Refused),
		Example:           `  tritonops runs show 8f2c`,
		Args:              cli.Args("RUN"),
		ValidArgsFunction: o.complete(func(procedure.State) bool { return true }, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := engine(o.env).Show(args[0])
			if err != nil {
				return err
			}
			return o.env.PrintText(r, func(u *ui.UI) error { return renderShow(u, r) })
		},
	}
}

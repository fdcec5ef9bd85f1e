package runs

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newForget(shared *options) *cobra.Command {
	o := &options{env: shared.env, kinds: shared.kinds}
	cmd := &cobra.Command{
		Use:   "forget RUN...",
		Short: "Remove runs that have ended, with their artifacts",
		Long: cli.Long(`
Remove runs that are done, undone or abandoned, with the old values and snapshots
they kept, and say which. A run that is done can no longer be undone then. A damaged
run is removed only if its id is typed (or given with --confirm): nobody will know
what it left behind.`,
			cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Held, fail.Interrupted),
		Example: `  tritonops runs forget 8f2c 01ab`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Usage(cmd, "RUN: missing")
			}
			return nil
		},
		ValidArgsFunction: o.complete(func(s procedure.State) bool {
			return s == procedure.Done || s == procedure.Undone || s == procedure.Abandoned || s == procedure.Damaged
		}, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.forget(cmd.Context(), args) },
	}
	o.AddFlags(cmd, true)
	return cmd
}

// forget removes one run after the other and tells what is gone, also if a later
// one could not be removed.
func (o *options) forget(ctx context.Context, ids []string) error {
	var gone []procedure.Forgotten
	var failed error
	for _, id := range ids {
		asker, show := o.asker()
		f, err := engine(o.env).Forget(ctx, id, asker)
		if shown, err := show(err); shown {
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			failed = err
			break
		}
		gone = append(gone, *f)
	}
	if o.DryRun || len(gone) == 0 {
		return failed
	}
	if err := o.env.PrintText(gone, func(u *ui.UI) error { return renderForgotten(u, gone) }); err != nil {
		return err
	}
	return failed
}

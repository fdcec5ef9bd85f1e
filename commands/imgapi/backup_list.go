package imgapi

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

type backupListOptions struct {
	storeOptions

	Limit int
	All   bool
}

func newBackupList(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &backupListOptions{storeOptions: storeOptions{env: env, instanceFlags: f, quick: true}}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the generations that can be restored",
		Long: cli.Long(`
List the generations in the store, newest first: when and by whom each was
written, what it changed, what it amounts to, and which has been proven good.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
		Example: `  tritonops imgapi backup list
  tritonops imgapi backup list --store file:///mnt/offsite/images -j`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addStoreFlag(cmd, "store", storeUsage)
	cmd.Flags().IntVar(&o.Limit, "limit", 50, "show the newest `N`")
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "show all")
	return cmd
}

func (o *backupListOptions) run(ctx context.Context) error {
	if o.Limit < 1 {
		return fail.New(fail.Usage, "--limit %d: want 1 or more", o.Limit)
	}
	if o.All {
		o.Limit = 0
	}
	inst, st, err := o.ready(ctx)
	if err != nil {
		return err
	}
	l, err := backup.List(ctx, st, o.Limit)
	if err != nil {
		return explain(inst, err)
	}
	if l.Newest == 0 {
		if l.Mirror {
			o.env.UI.Say("%s: a backup of the stock scripts, without generations; `imgapi restore` reads it as it is", l.Store)
		} else {
			o.env.UI.Say("%s: no backup yet", l.Store)
		}
	}
	return o.env.Print(l, func(t *ui.Table) { renderGenerations(t, l) })
}

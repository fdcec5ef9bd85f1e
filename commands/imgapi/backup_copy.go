package imgapi

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

type backupCopyOptions struct {
	storeOptions

	To       string
	DryRun   bool
	Parallel int
}

func newBackupCopy(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &backupCopyOptions{storeOptions: storeOptions{env: env, instanceFlags: f}}
	cmd := &cobra.Command{
		Use:   "copy --to URL",
		Short: "Keep a second copy of the backup, off-site or on a medium",
		Long: cli.Long(`
Copy every generation the store has into another store, which a restore can read
as well. What is there already is not sent again; every object is verified on both
sides. A store that holds another instance's backup, or one whose log has parted
from this one, is refused.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi backup copy --to file:///mnt/offsite/images
  tritonops imgapi restore --from file:///mnt/offsite/images`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, cmd.Context()) },
	}
	o.addStoreFlag(cmd, "from", fromUsage("copy"))
	fs := cmd.Flags()
	fs.StringVar(&o.To, "to", "", "copy into the store at `URL`: file:///mnt/offsite/images, say")
	fs.BoolVarP(&o.DryRun, "dry-run", "n", false, "show what would be copied and change nothing")
	fs.IntVar(&o.Parallel, "parallel", 8, "`N` objects at once")
	return cmd
}

func (o *backupCopyOptions) run(cmd *cobra.Command, ctx context.Context) error {
	switch {
	case o.To == "":
		return cli.Usage(cmd, "--to: missing")
	case o.To == o.store:
		return cli.Usage(cmd, "--to and --from: the same store")
	case o.Parallel < 1 || o.Parallel > 256:
		return cli.Usage(cmd, "--parallel %d: want 1 to 256", o.Parallel)
	}
	inst, err := o.load(o.env)
	if err != nil {
		return err
	}
	from, err := o.open(ctx, inst)
	if err != nil {
		return err
	}
	to, err := o.openURL(ctx, inst, o.To)
	if err != nil {
		return err
	}
	progress := o.env.UI.NewProgress()
	defer progress.Close()
	c, err := backup.Copy(ctx, from, to, backup.CopyOptions{Parallel: o.Parallel, DryRun: o.DryRun, Progress: progress})
	progress.Close()
	if err != nil {
		return explain(inst, err)
	}
	return o.env.PrintText(c, func(u *ui.UI) error { return renderCopied(u, c) })
}

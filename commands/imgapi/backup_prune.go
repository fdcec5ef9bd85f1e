package imgapi

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

type backupPruneOptions struct {
	storeOptions
	cli.Mutation

	Last   int
	Within time.Duration
	Grace  time.Duration
}

func newBackupPrune(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &backupPruneOptions{storeOptions: storeOptions{env: env, instanceFlags: f}}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete what no kept generation needs",
		Long: cli.Long(`
Delete generations older than those kept by --keep-last and --keep-within (a
generation that either rule keeps stays), and image files that no kept generation
names. Never deleted are the newest generation proven good, what a running restore
reads, and the two newest bases with the log between them.

An image file is first marked, and deleted by a later prune once the mark is
--grace old by the store's clock: an upload whose record is not yet written looks
like garbage too.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Refused, fail.Held, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi backup prune --keep-last 100 --keep-within 30d --dry-run
  tritonops imgapi backup prune --keep-last 100 --keep-within 30d --yes`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addStoreFlag(cmd, "store", storeUsage)
	o.Mutation.AddFlags(cmd, false)
	fs := cmd.Flags()
	fs.IntVar(&o.Last, "keep-last", 0, "keep the newest `N` generations")
	cli.DurationVar(fs, &o.Within, "keep-within", 0, "keep every generation that was current within this `TIME`")
	cli.DurationVar(fs, &o.Grace, "grace", backup.Grace, "how long an image file must have been unreferenced")
	return cmd
}

func (o *backupPruneOptions) run(ctx context.Context) error {
	if o.Last < 0 {
		return fail.New(fail.Usage, "--keep-last %d: want 1 or more", o.Last)
	}
	if o.Last == 0 && o.Within == 0 {
		return fail.Hint(fail.New(fail.Usage, "nothing says what to keep: name --keep-last, --keep-within or both"),
			"tritonops imgapi backup prune --keep-last 100 --keep-within 30d --dry-run")
	}
	if o.Grace <= 0 {
		return fail.New(fail.Usage, "--grace %s: want more than 0", o.Grace)
	}
	inst, st, err := o.ready(ctx)
	if err != nil {
		return err
	}
	plan, err := o.prune(ctx, inst, st, true)
	if err != nil {
		return explain(inst, err)
	}
	nothing := plan.Records+plan.Bases+plan.Objects+plan.NewlyMarked == 0
	if o.DryRun || nothing {
		plan.DryRun = o.DryRun // of nothing, all has been deleted
		return o.env.PrintText(plan, func(u *ui.UI) error { return renderPruned(u, plan) })
	}
	ok, err := o.env.Asker(&o.Mutation).Ask(ctx, question(st, plan))
	if err != nil {
		return err
	}
	if !ok {
		return fail.New(fail.Refused, "declined, nothing changed")
	}
	done, err := o.prune(ctx, inst, st, false)
	if err != nil {
		return explain(inst, err)
	}
	return o.env.PrintText(done, func(u *ui.UI) error { return renderPruned(u, done) })
}

func (o *backupPruneOptions) prune(ctx context.Context, inst *instance.Instance, st store.Store, dry bool) (backup.Pruned, error) {
	progress := o.env.UI.NewProgress()
	defer progress.Close()
	return backup.Prune(ctx, st, backup.PruneOptions{
		Keep: backup.Keep{Last: o.Last, Within: o.Within}, Grace: o.Grace, DryRun: dry,
		StateDir: backupDir(inst), Progress: progress,
	})
}

func question(st store.Store, p backup.Pruned) procedure.Question {
	lines := []string{
		fmt.Sprintf("keep generations %d to %d", p.OldestKept, p.Newest),
		fmt.Sprintf("delete %s and %s before them", count(p.Records, "record"), count(p.Bases, "base")),
		fmt.Sprintf("delete %s (%s) that none of them names", count(p.Objects, "image file"), bytesText(p.Bytes)),
		fmt.Sprintf("mark %d more for a later prune", p.NewlyMarked),
	}
	return procedure.Question{Title: "prune " + st.String(), Lines: lines, Irreversible: lines[1:3]}
}

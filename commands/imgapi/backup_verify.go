package imgapi

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

type backupVerifyOptions struct {
	storeOptions

	Deep     bool
	At       string
	Parallel int
}

func newBackupVerify(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &backupVerifyOptions{storeOptions: storeOptions{env: env, instanceFlags: f}}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that a generation can be restored",
		Long: cli.Long(`
Rebuild the state of a generation from the log and look for every object it
names: present, right length, right MD5 as the store lists it. With --deep every
object is downloaded and hashed, and compared with the SHA-1 of its manifest.

A generation without faults is marked good; prune never takes the newest good
one. Nothing else is changed and nothing is repaired: "backup run --verify" sends
again what this disk still has.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Faults, fail.Refused, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi backup verify
  tritonops imgapi backup verify --deep
  tritonops imgapi backup verify --deep --at 2026-11-20T12:00:00Z`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addStoreFlag(cmd, "store", storeUsage)
	fs := cmd.Flags()
	fs.BoolVar(&o.Deep, "deep", false, "download and hash every object")
	fs.StringVar(&o.At, "at", "", "verify the generation of this `TIME|ID` instead of the newest")
	fs.IntVar(&o.Parallel, "parallel", 16, "`N` objects at once")
	o.completeAt(cmd)
	return cmd
}

func (o *backupVerifyOptions) run(ctx context.Context) error {
	if o.Parallel < 1 || o.Parallel > 256 {
		return fail.New(fail.Usage, "--parallel %d: want 1 to 256", o.Parallel)
	}
	seq, at, err := parseAt(o.At, o.env.Now())
	if err != nil {
		return err
	}
	inst, st, err := o.ready(ctx)
	if err != nil {
		return err
	}
	var p backup.RestoreParams
	if err := p.Resolve(ctx, st, seq, at); err != nil {
		return explain(inst, err)
	}
	progress := o.env.UI.NewProgress()
	defer progress.Close()
	v, err := backup.Verify(ctx, st, backup.VerifyOptions{
		Seq: p.Generation, Deep: o.Deep, Parallel: o.Parallel, Progress: progress, Now: o.env.Now(),
	})
	progress.Close()
	if err != nil {
		return explain(inst, err)
	}
	if err := o.env.PrintText(v, func(u *ui.UI) error { return renderVerification(u, v) }); err != nil {
		return err
	}
	if len(v.Faults) > 0 {
		return fail.Silent(fail.Faults)
	}
	return nil
}

package imgapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/ui"
)

type backupRunOptions struct {
	storeOptions

	MaxDelete float64
	Full      bool
	TakeOver  bool
	Verify    bool
	DryRun    bool
	Parallel  int
}

func newBackupRun(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &backupRunOptions{storeOptions: storeOptions{env: env, instanceFlags: f}}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Save what changed as a new generation",
		Long: cli.Long(`
Save manifests, image files with stor "local", local auth keys and the
configuration (without secrets) as a new generation. What changed is decided by
content. A run with nothing to do costs a handful of requests.

A manifest that is half-written, an image file that is missing though its
manifest names it, or one that contradicts its manifest keeps its last good
version in the backup and is reported: the rest is published, the exit code is 3.

Refused before a first "imgapi restore" (an instance that has not taken over the
data must not replace the backup by its own emptiness), for a mode "dc" instance,
and where the run would delete more than --max-delete of what the backup holds.

Once a day a run also compares the mirror with the log and sends again what
somebody else removed.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Faults, fail.Refused, fail.Held, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi backup run
  tritonops imgapi backup run --dry-run
  tritonops imgapi backup run --max-delete 50%   # after deleting many images on purpose`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addStoreFlag(cmd, "store", storeUsage)
	fs := cmd.Flags()
	cli.PercentVar(fs, &o.MaxDelete, "max-delete", backup.DefaultMaxDelete, "largest `SHARE` of the stored manifests or image files that may be deleted without asking")
	fs.BoolVar(&o.Full, "full", false, "write a record that needs nothing before it, to go on after damage")
	fs.BoolVar(&o.TakeOver, "take-over", false, "go on from another instance's records: this disk holds the truth")
	fs.BoolVar(&o.Verify, "verify", false, "compare the mirror with the log now, not once a day")
	fs.BoolVarP(&o.DryRun, "dry-run", "n", false, "show what would be saved and change nothing")
	fs.IntVar(&o.Parallel, "parallel", 32, "`N` small objects at once, and a quarter as many image files")
	return cmd
}

func (o *backupRunOptions) run(ctx context.Context) error {
	if o.Parallel < 1 || o.Parallel > 256 {
		return fail.New(fail.Usage, "--parallel %d: want 1 to 256", o.Parallel)
	}
	if o.MaxDelete == 0 {
		o.MaxDelete = -1 // the runner takes 0 for its default
	}
	inst, st, err := o.ready(ctx)
	if err != nil {
		return err
	}
	if _, ok, err := inst.RestoredAt(); err != nil {
		return err
	} else if !ok && !o.DryRun {
		return fail.Hint(fail.New(fail.Refused, "%s: is missing: this instance has not been restored once, and may not replace the backup by its own data", inst.RestoredMarker()),
			"tritonops imgapi restore   # also with an empty store: it only marks then")
	}
	progress := o.env.UI.NewProgress()
	defer progress.Close()
	// Lists of every file are what a run holds: better collect more often than hold them twice.
	debug.SetGCPercent(25)
	r := &backup.Runner{
		Store: st, Instance: inst, StateDir: backupDir(inst), Writer: writer(ctx, o.env),
		MaxDelete: o.MaxDelete, AllowDelete: o.allowDelete, Parallel: o.Parallel,
		Full: o.Full, TakeOver: o.TakeOver, Verify: o.Verify, DryRun: o.DryRun,
		Progress: progress, Now: o.env.Now,
	}
	rep, err := r.Run(ctx)
	progress.Close()
	if _, gone := os.Stat(inst.ImagesDir()); errors.Is(err, fs.ErrNotExist) && errors.Is(gone, fs.ErrNotExist) {
		err = fail.Hint(err, "tritonops imgapi restore --dry-run   # the image files of this disk are gone: a restore brings them back")
	}
	return o.finish(inst, rep, explain(inst, err))
}

// allowDelete asks a person. Scripts answer with --max-delete.
func (o *backupRunOptions) allowDelete(ctx context.Context, d backup.Deletion) (bool, error) {
	if !o.env.UI.CanPrompt() {
		return false, nil
	}
	return o.env.Prompter().Confirm(ctx, ui.Question{
		Text: fmt.Sprintf("this run deletes %d of %d manifests and %d of %d image files from the newest generation; go on?", d.Manifests, d.OfManifests, d.Files, d.OfFiles),
		Flag: "--max-delete",
	})
}

// lastRun is last.json, what `imgapi status` reads.
type lastRun struct {
	FinishedAt time.Time      `json:"finished_at"`
	ExitCode   int            `json:"exit_code"`
	Generation uint64         `json:"seq"`
	Error      string         `json:"error,omitempty"`
	Faults     []backup.Fault `json:"faults"`
}

// finish leaves the status files of a run, the stock one and ours, and prints.
func (o *backupRunOptions) finish(inst *instance.Instance, rep backup.Report, err error) error {
	if err == nil && len(rep.Faults) > 0 {
		err = fail.Silent(fail.Faults)
	}
	code := fail.CodeOf(err)
	if !o.DryRun && code != fail.Held { // a run that stood back must not speak over the one at work
		if werr := o.leaveStatus(inst, rep, code, err); werr != nil {
			o.env.UI.Warn("status of this run: %v", werr)
		}
	}
	if err != nil && !fail.IsSilent(err) {
		return err
	}
	if perr := o.env.PrintText(rep, func(u *ui.UI) error { return renderRun(u, rep) }); perr != nil {
		return perr
	}
	return err
}

func (o *backupRunOptions) leaveStatus(inst *instance.Instance, rep backup.Report, code fail.Code, err error) error {
	l := lastRun{FinishedAt: o.env.Now().UTC().Truncate(time.Second), ExitCode: int(code), Generation: rep.Generation, Faults: rep.Faults}
	if err != nil && !fail.IsSilent(err) {
		l.Error = o.env.UI.Redactor.Redact(fail.Text(err))
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(backupDir(inst), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(backupDir(inst), "last.json"), append(b, '\n'), 0o600); err != nil {
		return err
	}
	return inst.WriteBackupStatus(int(code))
}

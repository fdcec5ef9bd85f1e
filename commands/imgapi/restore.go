package imgapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/commands/runs"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// riskLostFiles is the one risk of a restore that can be accepted by name.
const riskLostFiles = "lost-files"

type restoreOptions struct {
	storeOptions
	cli.Mutation
	serverOptions

	At       string
	Image    string
	Into     string
	WithKeys bool
	Accept   []string
}

func newRestore(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &restoreOptions{storeOptions: storeOptions{env: env, instanceFlags: f}}
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Get manifests and image files back from the backup",
		Long: cli.Long(`
Restore the instance from its backup: the newest generation, the one of a moment
(--at), or one image of it (--image). Everything is downloaded beside the live
data and verified first; then the server is stopped, image files and manifests are
swapped, and the server is started and asked what it lists. What is replaced is
kept aside and its place is printed. Files the disk still has are not downloaded.

A restore is a procedure: it is shown and asked for first, journaled, and after any
kind of end goes on with "runs resume" or back with "runs undo".

The first restore of a new instance also writes the marker that lets backups run,
even if its own Manta directory is empty. A backup of the stock scripts is restored as it is.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Faults, fail.Refused, fail.Midway, fail.Stuck, fail.Held, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi restore --dry-run
  tritonops imgapi restore --at 2026-11-20T12:00:00Z
  tritonops imgapi restore --image 01b2c898-945f-11e1-a523-af1afbe22822
  tritonops imgapi restore --from file:///mnt/offsite/images --into /data/look`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addStoreFlag(cmd, "from", fromUsage("restore"))
	o.Mutation.AddFlags(cmd, false)
	o.addServerFlags(cmd)
	fs := cmd.Flags()
	fs.StringVar(&o.At, "at", "", "restore the generation of this `TIME|ID` (default: the newest)")
	fs.StringVar(&o.Image, "image", "", "restore only this image (`UUID`)")
	fs.StringVar(&o.Into, "into", "", "restore into this new or empty `DIR`; the instance is left alone")
	fs.BoolVar(&o.WithKeys, "with-keys", false, "also set local auth keys back; shows what changes, because it may re-admit a revoked key")
	fs.StringSliceVar(&o.Accept, "accept-risk", nil, "accept a `RISK` by its name: "+riskLostFiles+" (image files the store has lost stay away)")
	o.completeAt(cmd)
	_ = cmd.RegisterFlagCompletionFunc("accept-risk", cobra.FixedCompletions([]string{riskLostFiles}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("image", completeUUIDs(env, f))
	_ = cmd.MarkFlagDirname("into")
	return cmd
}

// restoreSettings is what a later process needs to reach store and server again.
// It holds no secret: keys are named by file.
type restoreSettings struct {
	Instance instanceFlags `json:"instance"`
	Store    string        `json:"store,omitempty"`
	Server   serverOptions `json:"server"`
}

func (o *restoreOptions) run(ctx context.Context) error {
	seq, at, err := parseAt(o.At, o.env.Now())
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	inst, st, err := o.ready(ctx)
	if err != nil {
		return err
	}
	p := backup.RestoreParams{ID: uuid.NewString()[:8], Source: st.String(), Image: o.Image, Into: o.Into, WithKeys: o.WithKeys, SkipLost: len(o.Accept) > 0}
	p.Settings = restoreSettings{Instance: *o.instanceFlags, Store: o.store, Server: o.serverOptions}
	if err := p.Resolve(ctx, st, seq, at); err != nil {
		return explain(inst, err)
	}
	if p.Empty && o.store != "" && inst.Config.Manta != nil {
		// A path with a slip in it is an empty store too, and must not pass for the
		// first restore of an instance that has its backup elsewhere.
		err := fail.New(fail.Refused, "%s: holds no backup: there is nothing to restore", st)
		return fail.Hint(err, "tritonops imgapi backup list --store %s", o.store)
	}
	if err := o.survey(ctx, inst, st, &p); err != nil {
		return explain(inst, err)
	}
	plan, err := o.restorer(ctx, inst, st, p).Plan()
	if err != nil {
		return err
	}
	engine := runs.Engine(o.env)
	if o.DryRun {
		if err := engine.Preflight(ctx, plan); err != nil {
			return explain(inst, err)
		}
		return runs.PrintPlan(o.env, plan)
	}
	ok, err := procedure.Confirm(ctx, plan, o.env.Asker(&o.Mutation))
	if err != nil {
		return err
	}
	res, err := engine.Start(ctx, plan, ok)
	if err != nil {
		return explain(inst, err)
	}
	return o.report(engine, res, p, inst)
}

func (o *restoreOptions) validate() error {
	for _, r := range o.Accept {
		if r != riskLostFiles {
			return fail.New(fail.Usage, "--accept-risk %s: there is no such risk; there is %s", r, riskLostFiles)
		}
	}
	switch {
	case o.Image != "" && !instance.ValidUUID(o.Image):
		return fail.New(fail.Usage, "--image %q: not the uuid of an image", o.Image)
	case o.Image != "" && o.WithKeys:
		return fail.New(fail.Usage, "--image and --with-keys: contradict each other")
	}
	if o.Into != "" {
		dir, err := filepath.Abs(o.Into)
		if err != nil {
			return fail.New(fail.Usage, "--into %s: %w", o.Into, err)
		}
		o.Into = dir
	}
	return o.serverOptions.validate()
}

// survey finds out what an operator must see before he answers: local images
// that would go aside, and what --with-keys changes.
func (o *restoreOptions) survey(ctx context.Context, inst *instance.Instance, st store.Store, p *backup.RestoreParams) error {
	if p.Generation == 0 || p.Into != "" && p.Image == "" {
		return nil
	}
	s, err := backup.SurveyRestore(ctx, st, inst, p.Generation, p.Image)
	if err != nil || p.Into != "" {
		return err
	}
	if p.Image == "" {
		p.OnlyHere = s.OnlyHere
	}
	if o.WithKeys {
		for _, l := range s.Keys {
			o.env.UI.Say("%s", l)
		}
		if len(s.Keys) == 0 {
			o.env.UI.Say("auth keys: nothing changes")
		}
	}
	return nil
}

func (o *restoreOptions) restorer(ctx context.Context, inst *instance.Instance, st store.Store, p backup.RestoreParams) *backup.Restorer {
	r := &backup.Restorer{
		Store: st, Instance: inst, StateDir: backupDir(inst), Writer: writer(ctx, o.env),
		Params: p, Now: o.env.Now,
	}
	if !o.NoRestart && p.Into == "" {
		r.Server = &server{env: o.env, inst: inst, o: o.serverOptions}
	}
	return r
}

// Kinds are the procedures of this package, for `runs resume` and `runs undo`.
func Kinds(env *cli.Env) map[string]procedure.Rebuild {
	return map[string]procedure.Rebuild{backup.RestoreKind: func(ctx context.Context, raw json.RawMessage) (procedure.Plan, error) {
		var p backup.RestoreParams
		s := &restoreSettings{}
		p.Settings = s
		if err := json.Unmarshal(raw, &p); err != nil {
			return procedure.Plan{}, err
		}
		p.Settings = *s
		o := &restoreOptions{
			storeOptions:  storeOptions{env: env, instanceFlags: &s.Instance, store: s.Store},
			serverOptions: s.Server,
		}
		inst, err := o.load(env)
		if err != nil {
			return procedure.Plan{}, err
		}
		st, err := o.open(ctx, inst)
		if err != nil {
			return procedure.Plan{}, err
		}
		return o.restorer(ctx, inst, st, p).Plan()
	}}
}

// restoreReport is the answer of a finished restore.
type restoreReport struct {
	Run      string           `json:"run"`
	Empty    bool             `json:"empty"`
	Target   string           `json:"target"`
	Restored *backup.Restored `json:"restored,omitempty"`
	Compared *backup.Compared `json:"compared,omitempty"`
	Aside    string           `json:"replaced,omitempty"` // where what was replaced is kept
}

func (o *restoreOptions) report(engine *procedure.Engine, res *procedure.Result, p backup.RestoreParams, inst *instance.Instance) error {
	out := restoreReport{Run: res.ID, Empty: p.Empty, Target: res.Target}
	if !p.Empty {
		out.Restored, out.Compared = &backup.Restored{}, &backup.Compared{}
		if err := runs.Output(engine, res.ID, "download", out.Restored); err != nil {
			return err
		}
		err := runs.Output(engine, res.ID, "compare", out.Compared)
		if errors.Is(err, procedure.ErrNoOutput) {
			out.Compared = nil
		} else if err != nil {
			return err
		}
		if p.Into == "" {
			out.Aside = aside(filepath.Join(backupDir(inst), "restore", p.ID, "replaced"))
		}
	}
	if err := o.env.PrintText(out, func(u *ui.UI) error { return renderRestore(u, out) }); err != nil {
		return err
	}
	if out.Restored != nil && len(out.Restored.Faults) > 0 || out.Compared != nil && len(out.Compared.Missing)+len(out.Compared.Extra) > 0 {
		return fail.Silent(fail.Faults)
	}
	return nil
}

// aside is dir if a restore has put anything there, "" if it only left its marks.
func aside(dir string) string {
	some := errors.New("some")
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(p) != ".taken" {
			return some
		}
		return err
	})
	if errors.Is(err, some) {
		return dir
	}
	return ""
}

// parseAt reads what --at takes: a generation's number, a moment, or how long
// ago.
func parseAt(s string, now time.Time) (seq uint64, at time.Time, err error) {
	if s == "" {
		return 0, at, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		if n == 0 {
			return 0, at, fail.New(fail.Usage, "--at 0: generations are numbered from 1")
		}
		return n, at, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return 0, throughSecond(t), nil
		}
	}
	if d, err := cli.ParseDuration(s); err == nil {
		return 0, now.Add(-d), nil
	}
	return 0, at, fail.New(fail.Usage, "--at %q: want a generation's number, a time in UTC such as 2026-11-20T12:00:00Z, or how long ago such as 36h or 7d", s)
}

// throughSecond makes a time given to the second the end of that second: records
// are timed to the millisecond, lists show seconds, and what a list shows must
// find its generation.
func throughSecond(t time.Time) time.Time {
	if t.Nanosecond() == 0 {
		t = t.Add(time.Second - time.Nanosecond)
	}
	return t
}

// completeAt offers the generations of the store.
func (o *storeOptions) completeAt(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("at", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
		defer cancel()
		if o.env.Setup() != nil { // completion of a flag's value comes before every hook
			return nil, cobra.ShellCompDirectiveError
		}
		inst, err := o.load(o.env)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		st, err := o.open(ctx, inst)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := backup.List(ctx, st, 30)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, g := range l.Generations {
			out = append(out, fmt.Sprintf("%d\t%s", g.Seq, g.Label()))
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	})
}

package imgapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/status"
	"github.com/tritonops/tritonops/pkg/ui"
)

// statusOptions are the dependencies and flags of `imgapi status`.
type statusOptions struct {
	env   *cli.Env
	load  func() (*instance.Instance, error)
	url   func() string // public address; "" is the default
	manta *mantaFlags

	timeout             time.Duration
	watch               time.Duration // 0: once
	svcsCmd, crontabCmd string
}

const (
	defaultPublicURL = "https://localhost"
	defaultWatch     = 5 * time.Second
)

const statusLong = `status looks at one image server: its services, both of its addresses, the
certificate, whether the image list is one and agrees with the manifests on
disk, where image files live, disk space, log rotation and upload, Manta with
this instance's own key, the first restore, the schedule, age and result of
backups, and the lock and the other instances of its Manta area.

All checks run at once and are bounded by --timeout. A fault says what is
wrong, what was seen, why it matters and what to run; a fault that is only the
consequence of another is shown as unknown with its cause. A check that does
not apply says so. Nothing is changed anywhere.

With -v all checks are listed. With --watch it looks again and again: on a
terminal the list is drawn anew, elsewhere a line is added each time and one
for each change (with -j, one line of JSON each time), until Ctrl-C.

Limits: a certificate with less than 30 days left is a warning, with less than 7
a fault; a disk used to 80 % is a warning, to 90 % a fault; a backup or log upload
that ended more than an hour ago is a fault, and so is a log whose last rotation
is more than 65 minutes ago.

Warnings do not change the exit status.`

func (o *statusOptions) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Check an image server and explain what is wrong",
		Long:  cli.Long(statusLong, cli.InInstance, fail.Failed, fail.Usage, fail.Faults, fail.Refused, fail.Unreachable, fail.Interrupted),
		Example: `  tritonops imgapi status
  tritonops imgapi status -v --watch
  tritonops imgapi status -j | json checks -a name status`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && cmd.Flags().Changed("watch") {
				if _, err := cli.ParseDuration(args[0]); err == nil {
					return cli.Usage(cmd, "--watch %s: write --watch=%s", args[0], args[0])
				}
			}
			return cli.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	cli.DurationVar(f, &o.timeout, "timeout", health.DefaultTimeout, "`TIME` for all checks together")
	cli.DurationVar(f, &o.watch, "watch", 0, "look again after each `INTERVAL`, until Ctrl-C")
	f.Lookup("watch").NoOptDefVal = defaultWatch.String()
	f.StringVar(&o.svcsCmd, "svcs-cmd", "", "`COMMAND` that lists faulted services, its words split at blanks (default: svcs -x, where there is one)")
	f.StringVar(&o.crontabCmd, "crontab-cmd", "", "`COMMAND` that prints root's crontab, its words split at blanks (default: its file below the root, or crontab -l)")
	return cmd
}

func (o *statusOptions) run(ctx context.Context) error {
	switch {
	case o.timeout <= 0:
		return fail.New(fail.Usage, "--timeout %s: must be more than nothing", o.timeout)
	case o.watch != 0 && o.watch < time.Second:
		return fail.New(fail.Usage, "--watch=%s: must be at least 1s", o.watch)
	}
	inst, err := o.load()
	if err != nil {
		if fail.CodeOf(err) == fail.Failed { // nothing could be checked
			err = fail.As(fail.Unreachable, err)
		}
		return err
	}
	probe, done, err := o.probe(ctx, inst)
	if err != nil {
		return err
	}
	defer done()
	if o.watch > 0 {
		return o.again(ctx, probe)
	}
	rep, err := o.look(ctx, probe)
	if err != nil {
		return err
	}
	err = o.env.PrintHealth(rep)
	if err == nil && rep.Status == health.Unknown {
		err = fail.New(fail.Unreachable, "%s: nothing could be checked", inst.Root)
	}
	return err
}

// look runs the checks once, on a registry of their own.
func (o *statusOptions) look(ctx context.Context, p status.Probe) (*health.Report, error) {
	reg, err := status.New(p)
	if err != nil {
		return nil, err
	}
	return health.Runner{Timeout: o.timeout, Now: o.env.Now}.Run(ctx, reg)
}

// probe gathers what the checks look at. done gives it up.
func (o *statusOptions) probe(ctx context.Context, inst *instance.Instance) (status.Probe, func(), error) {
	p := status.Probe{
		Instance: inst, Now: o.env.Now, Commands: status.Exec{}, Disk: status.StatDisk,
		Svcs: strings.Fields(o.svcsCmd), Crontab: strings.Fields(o.crontabCmd),
	}
	url := o.url()
	if url == "" {
		url = defaultPublicURL
	}
	public, err := newStatusServer(o.env, inst, url, o.timeout)
	if err != nil {
		return p, nil, err
	}
	local, err := newStatusServer(o.env, inst, localURL(inst.Config), o.timeout)
	if err != nil {
		return p, nil, err
	}
	p.Local, p.Public = local, public
	closeManta, err := o.probeManta(ctx, inst, &p)
	if err != nil {
		return p, nil, err
	}
	return p, func() { local.c.Close(); public.c.Close(); closeManta() }, nil
}

// probeManta adds the way to Manta. A key that cannot be used is a finding, an
// interrupted prompt and wrong flags are not.
func (o *statusOptions) probeManta(ctx context.Context, inst *instance.Instance, p *status.Probe) (func(), error) {
	if err := o.manta.apply(inst.Config); err != nil {
		return nil, err
	}
	if inst.Config.Manta == nil {
		return func() {}, nil
	}
	c, key, err := newMantaClient(ctx, o.env, inst, o.manta, mantaEffort{attempts: 2, headerTimeout: o.timeout})
	switch {
	case fail.CodeOf(err) == fail.Interrupted, fail.CodeOf(err) == fail.Usage:
		return nil, err
	case err != nil:
		p.MantaErr = err
		return func() {}, nil
	}
	p.Manta, p.MantaKey = statusManta{c}, key.AuthorizedKey()
	return c.Close, nil
}

// again looks until ctx ends, which is how watching ends well.
func (o *statusOptions) again(ctx context.Context, p status.Probe) error {
	var before *health.Report
	for {
		rep, err := o.look(ctx, p)
		if err == nil {
			err = o.show(before, rep)
		}
		if err == nil {
			err = pause(ctx, o.watch)
		}
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		before = rep
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// show prints one look of many: JSON by the line, a frame on a terminal, lines
// elsewhere.
func (o *statusOptions) show(before, rep *health.Report) error {
	u := o.env.UI
	if o.env.Globals.WantsJSON() {
		return ui.JSONL(u.Out(), rep)
	}
	if u.OutTTY && o.env.Getenv("TERM") != "dumb" {
		frame, err := statusFrame(rep, u.NewTable(o.env.Globals.NoHeader), u.Width())
		if err != nil {
			return err
		}
		// Home, each line over the old one, then clear what is left below.
		_, err = fmt.Fprint(u.Out(), "\x1b[H"+strings.Join(frame, "\x1b[K\n")+"\x1b[K\n\x1b[J")
		return err
	}
	return u.Printf("%s\n", strings.Join(append([]string{statusSum(rep)}, statusChanges(before, rep)...), "\n"))
}

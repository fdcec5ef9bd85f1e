package lab

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

type upOptions struct {
	*options

	dcs, instances         int
	account, mode, storage string
	channels, detach       bool
	noInstanceKey, noManta bool
	keyDelay               time.Duration
	seed                   uint64
}

func newUp(o *options) *cobra.Command {
	u := &upOptions{options: o}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the lab, or continue it",
		Long: cli.Long(`up starts a Manta and standalone IMGAPI instances (images0, images1 ...) on
loopback. On a directory that holds a lab it continues that one, with the same
ports, keys and data; --instances can only add to it, and the flags that describe
new instances do not change old ones. --key-delay and --seed hold for the next
starts too, until they are given again.

Without --detach it stays in the foreground until it is interrupted or ended with
'lab down'. With --detach it returns once everything answers; what the lab says
goes to DIR/lab.log.`, cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Held),
		Example: `  tritonops lab up --dir /var/tmp/lab
  tritonops lab up --dir /var/tmp/lab --instances 2 --channels --detach`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return u.run(cmd) },
	}
	f := cmd.Flags()
	f.IntVar(&u.dcs, "dcs", 1, "number of data centers; this lab has none of their services and refuses more than 1")
	f.IntVar(&u.instances, "instances", 1, "number of standalone IMGAPI instances")
	f.StringVar(&u.account, "account", "bob", "the Manta account")
	f.StringVar(&u.mode, "mode", "public", "mode of new instances: public or private")
	f.BoolVar(&u.channels, "channels", false, "give new instances the standard channels")
	f.BoolVar(&u.noInstanceKey, "no-instance-key", false, "leave the keys of new instances off the Manta account")
	f.BoolVar(&u.noManta, "no-manta", false, "make new instances without Manta in their configuration")
	f.StringVar(&u.storage, "storage", "manta", "where new instances keep image files: manta (and local, as the stock template) or local")
	cli.DurationVar(f, &u.keyDelay, "key-delay", 0, "how long Manta takes to know a new key everywhere (default: as before, at first 0)")
	f.Uint64Var(&u.seed, "seed", 0, "of the faults' dice (default: as before, at first 0)")
	f.BoolVar(&u.detach, "detach", false, "return once everything answers and leave the lab running")
	// the only error is a flag that does not exist
	_ = cmd.RegisterFlagCompletionFunc("storage", cobra.FixedCompletions([]string{"manta", "local"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (u *upOptions) run(cmd *cobra.Command) error {
	ctx, given := cmd.Context(), cmd.Flags().Changed
	dir, err := u.labDir()
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	if u.detach {
		return u.background(ctx, given, dir, binary)
	}
	level := slog.LevelInfo
	if u.env.UI.Quiet() {
		level = slog.LevelWarn
	}
	cfg := lab.Config{Dir: dir, DCs: u.dcs, Instances: u.instances, Account: u.account, Mode: u.mode, Channels: u.channels,
		NoInstanceKey: u.noInstanceKey, NoManta: u.noManta, Storage: u.storage, Binary: binary,
		Log: slog.New(slog.NewTextHandler(u.env.UI.Err(), &slog.HandlerOptions{Level: level}))}
	if given("key-delay") {
		cfg.KeyDelay = &u.keyDelay
	}
	if given("seed") {
		cfg.Seed = &u.seed
	}
	l, err := lab.Up(ctx, cfg)
	if err != nil {
		return err
	}
	st := l.State()
	if err := u.env.PrintText(st, func(ui *ui.UI) error { return upText(ui, &st) }); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		u.env.UI.Say("interrupted: the lab ends; its directory stays")
	case <-l.Stopped():
	}
	return l.Close()
}

func (u *upOptions) background(ctx context.Context, given func(string) bool, dir, binary string) error {
	args := []string{"lab", "up", "--dir", dir, "--dcs", strconv.Itoa(u.dcs), "--instances", strconv.Itoa(u.instances), "--account", u.account,
		"--mode", u.mode, "--storage", u.storage}
	if given("seed") {
		args = append(args, "--seed", strconv.FormatUint(u.seed, 10))
	}
	if given("key-delay") {
		args = append(args, "--key-delay", u.keyDelay.String())
	}
	for flag, on := range map[string]bool{"--channels": u.channels, "--no-instance-key": u.noInstanceKey, "--no-manta": u.noManta} {
		if on {
			args = append(args, flag)
		}
	}
	st, err := lab.Detach(ctx, dir, binary, args)
	if err != nil {
		return err
	}
	u.env.UI.Say("%s", lab.Notice)
	return u.env.PrintText(st.State, func(ui *ui.UI) error { return upText(ui, &st.State) })
}

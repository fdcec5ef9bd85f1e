package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/durable"
)

// ShimNames are the commands of a zone that have a shim.
func ShimNames() []string {
	return []string{"svcadm", "svcs", "crontab", "zonename", "hostname", "mdata-get"}
}

// writeShims makes the shims of every instance, if the binary is known.
func writeShims(s *State) error {
	if s.Binary == "" {
		return nil
	}
	for _, in := range s.Instances {
		dir := filepath.Join(paths{s.Dir}.bin(), in.Name)
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, name := range ShimNames() {
			text := "#!/bin/sh\n# stands for the " + name + " of a zone, in a lab\nexec " + shQuote(s.Binary) + " lab shim --dir " +
				shQuote(s.Dir) + " --instance " + shQuote(in.Name) + " " + name + " \"$@\"\n"
			path := filepath.Join(dir, name)
			if have, err := os.ReadFile(path); err == nil && string(have) == text {
				continue
			}
			if err := durable.WriteFile(path, []byte(text), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// ShimCall is one call of a shim.
type ShimCall struct {
	Dir, Instance, Name string
	Args                []string
	Stdin               io.Reader
	Stdout, Stderr      io.Writer
}

// Run does what the command does in a real zone, as far as the lab knows it, and
// returns its exit status. What it does not know is refused with status 2 on
// stderr.
func (c ShimCall) Run(ctx context.Context) int {
	client, err := Connect(c.Dir)
	if err != nil {
		return c.failf(1, "%s", err)
	}
	in := client.state.Instance(c.Instance)
	if in == nil {
		return c.failf(1, "instance %s: not in the lab", c.Instance)
	}
	switch c.Name {
	case "zonename":
		fmt.Fprintln(c.Stdout, in.Zonename)
	case "hostname":
		if len(c.Args) > 0 {
			return c.failf(1, "the lab does not change host names")
		}
		fmt.Fprintln(c.Stdout, in.Hostname)
	case "mdata-get":
		return c.mdata(zone{in})
	case "crontab":
		return c.crontab(zone{in})
	case "svcs":
		return c.svcs(ctx, client)
	case "svcadm":
		return c.svcadm(ctx, client)
	default:
		return c.failf(127, "no such shim")
	}
	return 0
}

func (c ShimCall) failf(status int, format string, args ...any) int {
	fmt.Fprintf(c.Stderr, "%s: %s\n", c.Name, fmt.Sprintf(format, args...))
	return status
}

func (c ShimCall) mdata(z zone) int {
	if len(c.Args) != 1 {
		return c.failf(3, "usage: mdata-get <keyname>")
	}
	pub, err := z.publicKey()
	if err != nil {
		return c.failf(2, "%s", err)
	}
	conf, err := z.readConfig()
	if err != nil {
		return c.failf(2, "%s", err)
	}
	values := map[string]string{"sdc:alias": z.Name, "sdc:uuid": z.Zonename, "sdc:zonename": z.Zonename, "sdc:hostname": z.Hostname,
		"sdc:datacenter_name": "lab", "sdc:owner_uuid": "930896af-bf8c-48d4-885c-6573a94b1853", "instPubKey": pub,
		"mode": conf.Mode, "serverName": conf.ServerName}
	if m := conf.Manta; m != nil {
		values["mantaUrl"], values["mantaUser"], values["mantaBaseDir"], values["mantaInsecure"] = m.URL, m.User, m.BaseDir, fmt.Sprint(m.Insecure)
	}
	v, ok := values[c.Args[0]]
	if !ok {
		fmt.Fprintf(c.Stderr, "No metadata for '%s'\n", c.Args[0])
		return 1
	}
	fmt.Fprintln(c.Stdout, v)
	return 0
}

// crontab lists, replaces or removes root's crontab; nothing in it is run.
func (c ShimCall) crontab(z zone) int {
	switch {
	case slices.Equal(c.Args, []string{"-l"}):
		b, err := os.ReadFile(z.crontab())
		if err != nil {
			return c.failf(1, "can't open your crontab file.")
		}
		_, err = c.Stdout.Write(b)
		return exitOf(err)
	case slices.Equal(c.Args, []string{"-r"}):
		if err := os.Remove(z.crontab()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c.failf(1, "%s", err)
		}
		return 0
	case len(c.Args) > 1 || len(c.Args) == 1 && strings.HasPrefix(c.Args[0], "-") && c.Args[0] != "-":
		return c.failf(2, "the lab knows crontab -l, crontab -r, crontab FILE and standard input")
	}
	in := c.Stdin
	if len(c.Args) == 1 && c.Args[0] != "-" {
		f, err := os.Open(c.Args[0])
		if err != nil {
			return c.failf(1, "can't open your crontab file: %s", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(in)
	if err == nil {
		err = durable.WriteFile(z.crontab(), b, 0o600)
	}
	if err != nil {
		return c.failf(1, "%s", err)
	}
	return 0
}

func exitOf(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// services asks the lab; a zone whose lab is down has no repository server.
func (c ShimCall) services(ctx context.Context, client *Client) ([]ServiceStatus, bool) {
	st, err := client.Status(ctx)
	if err != nil {
		fmt.Fprintf(c.Stderr, "%s: Could not bind to repository server: repository server unavailable (the lab is down).  Exiting.\n", c.Name)
		return nil, false
	}
	list := st.Services[c.Instance]
	slices.SortFunc(list, func(a, b ServiceStatus) int { return cmp.Compare(a.FMRI, b.FMRI) })
	return list, true
}

// known finds services by name, by the end of their FMRI or by the whole.
func known(list []ServiceStatus, pattern string) []ServiceStatus {
	var out []ServiceStatus
	short := strings.TrimSuffix(strings.TrimPrefix(pattern, "svc:/"), ":default")
	for _, s := range list {
		full := strings.TrimSuffix(strings.TrimPrefix(s.FMRI, "svc:/"), ":default")
		if full == short || strings.HasSuffix(full, "/"+short) {
			out = append(out, s)
		}
	}
	return out
}

// split takes single-letter options off the front; allowed lists the letters.
func split(args []string, allowed string) (opts string, rest []string, ok bool) {
	for i, a := range args {
		if len(a) < 2 || a[0] != '-' {
			return opts, args[i:], true
		}
		for _, o := range a[1:] {
			if !strings.ContainsRune(allowed, o) {
				return opts, nil, false
			}
			opts += string(o)
		}
	}
	return opts, nil, true
}

func (c ShimCall) svcadm(ctx context.Context, client *Client) int {
	_, args, ok := split(c.Args, "v")
	if !ok || len(args) == 0 {
		return c.failf(2, "usage: svcadm enable|disable|restart|refresh|clear [-st] service ...")
	}
	verb := args[0]
	opts, names, ok := split(args[1:], "st")
	if !ok || len(names) == 0 || !slices.Contains([]string{"enable", "disable", "restart", "refresh", "clear"}, verb) {
		return c.failf(2, "the lab knows enable, disable [-st], restart, refresh and clear")
	}
	list, ok := c.services(ctx, client)
	if !ok {
		return 1
	}
	for _, n := range names {
		found := known(list, n)
		if len(found) == 0 {
			return c.failf(1, "Pattern '%s' doesn't match any instances", n)
		}
		for _, s := range found {
			now, err := client.Service(ctx, c.Instance, s.Name, verb, strings.Contains(opts, "t"))
			if err != nil {
				return c.failf(1, "%s", err)
			}
			if verb == "enable" && strings.Contains(opts, "s") && now.State != stateOnline {
				return c.failf(3, "Instance \"%s\" is in %s state.", now.FMRI, now.State)
			}
		}
	}
	return 0
}

func (c ShimCall) svcs(ctx context.Context, client *Client) int {
	opts, names, ok := split(c.Args, "axvHp")
	if !ok {
		return c.failf(2, "the lab knows svcs [-aHvx] [service ...]")
	}
	all, ok := c.services(ctx, client)
	if !ok {
		return 1
	}
	status, list := 0, all
	if len(names) > 0 {
		list = nil
		for _, n := range names {
			found := known(all, n)
			if len(found) == 0 {
				status = c.failf(1, "Pattern '%s' doesn't match any instances", n)
			}
			list = append(list, found...)
		}
	}
	if strings.Contains(opts, "x") {
		for _, s := range list {
			// without names only what is enabled and does not run is explained
			if s.State != stateOnline && (s.State != stateDisabled || len(names) > 0) || len(names) > 0 {
				c.explain(s)
			}
		}
		return status // findings do not change the exit status
	}
	if !strings.Contains(opts, "H") {
		fmt.Fprintf(c.Stdout, "%-14s %-8s %s\n", "STATE", "STIME", "FMRI")
	}
	for _, s := range list {
		if s.State != stateDisabled || strings.Contains(opts, "a") || len(names) > 0 {
			fmt.Fprintf(c.Stdout, "%-14s %-8s %s\n", s.State, s.Since.Format("15:04:05"), s.FMRI)
		}
	}
	return status
}

func (c ShimCall) explain(s ServiceStatus) {
	reason, impact := "", "This service is not running."
	switch s.State {
	case stateOnline:
		impact = "None."
	case stateDisabled:
		reason = "Disabled by an administrator."
	case stateMaintenance:
		reason = "Restarting too quickly."
	default:
		reason = "Start method is running."
	}
	fmt.Fprintf(c.Stdout, "\n%s (%s)\n State: %s since %s\n", s.FMRI, s.Title, s.State, s.Since.Format("Mon Jan _2 15:04:05 2006"))
	if reason != "" {
		fmt.Fprintf(c.Stdout, "Reason: %s\n", reason)
	}
	fmt.Fprintf(c.Stdout, "   See: /var/svc/log/%s.log\nImpact: %s\n",
		strings.ReplaceAll(strings.TrimPrefix(s.FMRI, "svc:/"), "/", "-"), impact)
}

package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/commands/runs"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/health"
	"golang.org/x/sys/unix"
)

func newDoctor(env *cli.Env, b Build) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the environment this program runs in",
		Long: cli.Long(`doctor looks at what tritonops itself needs on this machine: the root
directory and the recorded runs below it, the instance's configuration if there is
one, the terminal, which program answers to each of its names on PATH, the ssh
agent and the clock. It changes nothing and asks no service.`, cli.Anywhere, fail.Faults),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := doctor{env: env, build: b}
			reg, err := health.New(d.checks()...)
			if err != nil {
				return err
			}
			rep, err := health.Runner{Now: env.Now}.Run(cmd.Context(), reg)
			if err != nil {
				return err
			}
			return env.PrintHealth(rep)
		},
	}
}

// doctor holds what the checks look at.
type doctor struct {
	env   *cli.Env
	build Build
}

func (d doctor) checks() []health.Check {
	root := []string{"root"}
	return []health.Check{
		{Name: "root", Title: "root directory", Run: d.root},
		{Name: "state", Title: "directory of recorded runs", DependsOn: root, Run: d.state},
		{Name: "instance_config", Title: "instance configuration", DependsOn: root, Run: d.config},
		{Name: "terminal", Title: "terminal", Run: d.terminal},
		{Name: "names", Title: "programs called by our names", Run: d.names},
		{Name: "ssh_agent", Title: "ssh agent", Run: d.agent},
		{Name: "clock", Title: "clock", DependsOn: root, Run: d.clock},
	}
}

func (d doctor) root(context.Context) health.Result {
	root := d.env.Globals.Root
	st, err := os.Stat(root)
	switch {
	case err != nil:
		return health.Faultf("%s: cannot be read", root).Saw("%v", err).
			Because("every local path is below it").Do("give a directory that can be read with --root or TRITONOPS_ROOT, or run as root")
	case !st.IsDir():
		return health.Faultf("%s: not a directory", root).
			Because("every local path is below it").Do("give a directory with --root or TRITONOPS_ROOT")
	}
	return health.Okf("%s", root)
}

func (d doctor) state(context.Context) health.Result {
	dir := runs.RunsDir(d.env.Globals.Root)
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return health.NAf("%s does not exist yet; the first command that changes something makes it", dir)
	case err != nil:
		return health.Faultf("%s: cannot be read", dir).Saw("%v", err).
			Because("runs can be neither recorded nor resumed").Do("run as the user who owns it")
	case !st.IsDir():
		return health.Faultf("%s: not a directory", dir).Because("runs can be neither recorded nor resumed")
	}
	if err := unix.Access(dir, unix.W_OK); err != nil { // a probe file would change the time that clock looks at
		return health.Faultf("%s: cannot be written to", dir).Saw("%v", err).
			Because("runs can be neither recorded nor resumed").Do("run as the user who owns it")
	}
	return health.Okf("%s is writable", dir)
}

func (d doctor) terminal(context.Context) health.Result {
	ui := d.env.UI
	res := health.Okf("questions can be asked")
	if !ui.CanPrompt() {
		res = health.Okf("none: questions are refused, answer them with --yes or --confirm")
	}
	return res.Saw("stdin is a terminal: %v", ui.InTTY).
		Saw("stdout is a terminal: %v", ui.OutTTY).
		Saw("stderr is a terminal: %v", ui.ErrTTY)
}

// names looks on PATH for every name this program answers to: a stock
// imgapiadm before ours gives other answers to the same words.
func (d doctor) names(context.Context) health.Result {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return health.Warnf("this program's own path is unknown").Saw("%v", err)
	}
	var foreign []string
	res := health.Okf("none of them is another program")
	for _, name := range Names() {
		found := lookPath(d.env.Getenv("PATH"), name)
		switch {
		case found == "":
			res = res.Saw("%s: not on PATH", name)
		case sameFile(found, self):
			res = res.Saw("%s: this program, %s", name, found)
		default:
			foreign = append(foreign, fmt.Sprintf("%s: another program, %s", name, found))
		}
	}
	if len(foreign) == 0 {
		return res
	}
	bad := health.Warnf("%d of our names lead to another program", len(foreign))
	bad.Evidence = append(foreign, res.Evidence...)
	return bad.Because("a command typed by that name is not answered by " + self).
		Do("put the directory of " + self + " first in PATH, or call it by its full path")
}

func (d doctor) agent(context.Context) health.Result {
	socket := d.env.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return health.NAf("SSH_AUTH_SOCK is not set; keys are read from files")
	}
	st, err := os.Stat(socket)
	switch {
	case err != nil:
		return health.Warnf("%s: cannot be reached", socket).Saw("%v", err).
			Because("keys that only the agent holds cannot sign").Do("start an agent, or unset SSH_AUTH_SOCK")
	case st.Mode()&fs.ModeSocket == 0:
		return health.Warnf("%s: not a socket", socket).
			Because("keys that only the agent holds cannot sign").Do("start an agent, or unset SSH_AUTH_SOCK")
	}
	return health.Okf("%s", socket)
}

// clock compares the wall clock with times that lie in the past for certain.
func (d doctor) clock(context.Context) health.Result {
	now := d.env.Now()
	past := map[string]time.Time{}
	for _, path := range []string{
		d.env.StateDir(), runs.RunsDir(d.env.Globals.Root), filepath.Join(d.env.StateDir(), "backup"),
		d.env.Path("data", "imgapi", "run"),
	} {
		if st, err := os.Stat(path); err == nil {
			past[path] = st.ModTime()
		}
	}
	if self, err := os.Executable(); err == nil {
		if st, err := os.Stat(self); err == nil {
			past[self] = st.ModTime()
		}
	}
	const slack = 2 * time.Minute // file systems served by another machine
	for path, t := range past {
		if now.Add(slack).Before(t) {
			return health.Faultf("the clock is behind: it says %s", now.UTC().Format(time.RFC3339)).
				Saw("%s was changed at %s", path, t.UTC().Format(time.RFC3339)).
				Because("requests are signed with the time, and backups are ordered by it").
				Do("set the clock: svcadm restart ntp")
		}
	}
	return health.Okf("%s, after everything of ours on disk", now.UTC().Format(time.RFC3339))
}

// lookPath finds an executable file in a list of directories.
func lookPath(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 && strings.HasPrefix(file, "/") {
			return file
		}
	}
	return ""
}

func sameFile(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

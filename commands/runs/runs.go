// Package runs holds the verbs on recorded runs of procedures (list, show,
// resume, undo, abandon, forget), and what every command that starts a procedure
// needs: the [Engine] with its place on disk and its live view, and [PrintPlan]
// for a dry run.
package runs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// New returns the group. kinds tells how each kind of procedure is made again
// from its recorded parameters.
func New(env *cli.Env, kinds map[string]procedure.Rebuild) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List, resume and undo runs of procedures",
		Long: cli.Long(`
Everything that changes more than one thing is a procedure, and each time one is
started it leaves a run: its plan, a journal of every step, and the old values its
undo needs. A run that stopped midway (a failed step, Ctrl-C, kill -9, power loss)
blocks its target until it is resumed, undone or abandoned.

Runs live under /data/tritonops/runs in an instance's zone, and under
/var/db/tritonops/runs elsewhere. A run is named by its id or the beginning of it.`, cli.Anywhere),
	}
	o := &options{env: env, kinds: kinds}
	cmd.AddCommand(newList(o), newShow(o), newResume(o), newUndo(o), newAbandon(o), newForget(o))
	return cmd
}

// options is what all verbs share.
type options struct {
	env   *cli.Env
	kinds map[string]procedure.Rebuild
	cli.Mutation
}

// RunsDir is where runs are kept. In an instance's zone, recognised by
// <root>/data/imgapi, that is <root>/data/tritonops/runs, on the delegated
// dataset: the root file system dies with a reprovision. Elsewhere, that is on a
// headnode, it is <root>/var/db/tritonops/runs.
func RunsDir(root string) string {
	if st, err := os.Stat(filepath.Join(root, "data", "imgapi")); err == nil && st.IsDir() {
		return filepath.Join(root, "data", "tritonops", "runs")
	}
	return filepath.Join(root, "var", "db", "tritonops", "runs")
}

// Engine returns the engine of this machine: it keeps runs in [RunsDir], asks
// for secrets as the command line says, and shows what happens on stderr, live on
// a terminal and as plain lines elsewhere. With -o jsonl the events go to stdout,
// one a line, before the command's own answer.
func Engine(env *cli.Env) *procedure.Engine {
	e := engine(env)
	e.Observer = observer(env, env.Globals.Output == cli.JSONL)
	return e
}

// engine is an engine without an observer, for reading and for the verbs whose
// whole answer are the events.
func engine(env *cli.Env) *procedure.Engine {
	return &procedure.Engine{
		Dir: RunsDir(env.Globals.Root), Now: env.Now, Version: env.Version, By: operator(env), Secrets: env.Secrets(),
	}
}

func observer(env *cli.Env, stream bool) procedure.Observer {
	look := Look{TTY: env.UI.ErrTTY && env.Getenv("TERM") != "dumb", Paint: env.UI.ErrPaint(), Width: env.UI.Width, Now: env.Now}
	switch {
	case stream:
		return NewEvents(env.UI.Out(), Look{JSON: true, Now: env.Now})
	case env.UI.Quiet():
		return nil
	}
	return NewEvents(env.UI.Err(), look)
}

// operator is who the journal says did it: the person behind sudo, if any.
func operator(env *cli.Env) string {
	who := ""
	for _, name := range []string{"SUDO_USER", "LOGNAME", "USER"} {
		if who = env.Getenv(name); who != "" {
			break
		}
	}
	if who == "" {
		who = fmt.Sprintf("uid %d", os.Getuid()) // a service or a bare environment
	}
	host, err := os.Hostname()
	if err != nil {
		return who
	}
	return who + "@" + host
}

// PrintPlan is the answer of a dry run: what would be done, in order.
func PrintPlan(env *cli.Env, p procedure.Plan) error {
	return env.PrintText(p.Shown(), func(u *ui.UI) error {
		_, err := fmt.Fprint(u.Out(), cli.PlanText(p.Question(), u.OutPaint()))
		return err
	})
}

// Output decodes what a step of a recorded run returned. The error wraps
// procedure.ErrNoOutput if it returned nothing or did not succeed.
func Output(e *procedure.Engine, id, step string, v any) error {
	r, err := e.Show(id)
	if err != nil {
		return err
	}
	if r.Damage != "" {
		return fail.New(fail.Failed, "run %s: %s", r.ID, r.Damage)
	}
	for _, s := range r.Steps {
		if s.Name != step {
			continue
		}
		if len(s.Output) == 0 {
			break
		}
		if err := json.Unmarshal(s.Output, v); err != nil {
			return fmt.Errorf("run %s: output of step %q: %w", r.ID, step, err)
		}
		return nil
	}
	return fmt.Errorf("run %s: step %q: %w", r.ID, step, procedure.ErrNoOutput)
}

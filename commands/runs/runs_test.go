package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// world is a machine below a temporary root with a procedure that makes the files
// a, b and c there.
type world struct {
	t    *testing.T
	root string
	env  map[string]string
	fail string // the step whose apply fails
	jam  string // the step whose undo fails
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "data", "imgapi"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, root: root, env: map[string]string{"LOGNAME": "operator", "TRITONOPS_ROOT": root}}
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

func (w *world) rebuild(context.Context, json.RawMessage) (procedure.Plan, error) {
	p := procedure.Plan{Kind: "demo", Target: "demo files", Title: "make the demo's files", Params: json.RawMessage(`{"n":3}`)}
	for _, n := range []string{"a", "b", "c"} {
		p.Steps = append(p.Steps, procedure.Step{
			Name: n, Line: "make file " + n,
			Apply: func(_ context.Context, r *procedure.Run) (any, error) {
				if w.fail == n {
					return nil, errors.New("no space left on device")
				}
				if n == "a" {
					if err := r.Artifact("old", []byte("hunter2")); err != nil {
						return nil, err
					}
				}
				return map[string]string{"file": n}, os.WriteFile(w.path(n), nil, 0o600)
			},
			Undo: func(context.Context, *procedure.Run) error {
				if w.jam == n {
					return errors.New("device busy")
				}
				if err := os.Remove(w.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return nil
			},
		})
	}
	return p, nil
}

// answer is what a command line left behind.
type answer struct {
	out, err string
	code     fail.Code
	hints    string
}

// cli runs one command line.
func (w *world) cli(args ...string) answer {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{
		UI:     ui.New(ui.Config{In: strings.NewReader(""), Out: &out, Err: &errs}),
		Getenv: func(k string) string { return w.env[k] },
		Now:    time.Now, Name: "tritonops", Version: "1.0.0", Globals: &cli.Globals{},
	}
	root := &cobra.Command{Use: "tritonops", SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.Setup() }}
	env.Globals.AddFlags(root)
	root.AddCommand(New(env, map[string]procedure.Rebuild{"demo": w.rebuild}), w.start(env))
	root.SetArgs(args)
	if args[0] == "__complete" { // the real root sets up before it completes
		if err := env.Setup(); err != nil {
			w.t.Fatal(err)
		}
	}
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(w.t.Context())
	a := answer{out.String(), errs.String(), fail.CodeOf(err), strings.Join(fail.Hints(err), "\n")}
	if err != nil {
		a.err += err.Error()
	}
	return a
}

// start is a command that starts the procedure, as other nouns have them.
func (w *world) start(env *cli.Env) *cobra.Command {
	m := &cli.Mutation{}
	cmd := &cobra.Command{Use: "start", RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := w.rebuild(cmd.Context(), nil)
		if err != nil {
			return err
		}
		e := Engine(env)
		if m.DryRun {
			return PrintPlan(env, p)
		}
		ok, err := procedure.Confirm(cmd.Context(), p, env.Asker(m))
		if err != nil {
			return err
		}
		res, err := e.Start(cmd.Context(), p, ok)
		if err != nil {
			return err
		}
		var got struct{ File string }
		if err := Output(e, res.ID, "b", &got); err != nil {
			return err
		}
		return env.PrintText(got, func(u *ui.UI) error { return u.Printf("made %s\n", got.File) })
	}}
	m.AddFlags(cmd, false)
	return cmd
}

// only returns the id of the one run.
func (w *world) only() string {
	w.t.Helper()
	es, err := os.ReadDir(RunsDir(w.root))
	if err != nil {
		w.t.Fatal(err)
	}
	id := ""
	for _, e := range es {
		if !strings.HasPrefix(e.Name(), ".") {
			id += e.Name()
		}
	}
	return id
}

func (w *world) want(a answer, code fail.Code, texts ...string) {
	w.t.Helper()
	if a.code != code {
		w.t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", a.code, code, a.out, a.err)
	}
	for _, s := range texts {
		if !strings.Contains(a.out+a.err+a.hints, s) {
			w.t.Errorf("%q is missing\nstdout: %s\nstderr: %s\nhints: %s", s, a.out, a.err, a.hints)
		}
	}
}

func (w *world) files() string {
	var l []string
	for _, n := range []string{"a", "b", "c"} {
		if _, err := os.Stat(w.path(n)); err == nil {
			l = append(l, n)
		}
	}
	return strings.Join(l, " ")
}

func TestRunsLiveOnTheDelegatedDatasetInAnInstanceAndUnderVarElsewhere(t *testing.T) {
	root := t.TempDir()
	if got := RunsDir(root); got != filepath.Join(root, "var/db/tritonops/runs") {
		t.Error(got)
	}
	if err := os.MkdirAll(filepath.Join(root, "data", "imgapi"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := RunsDir(root); got != filepath.Join(root, "data/tritonops/runs") {
		t.Error(got)
	}
}

func TestAStartedProcedureShowsItsStepsAndIsListed(t *testing.T) {
	w := newWorld(t)
	w.want(w.cli("runs", "list", "-j"), fail.OK, "[]")
	w.want(w.cli("start", "-n"), fail.OK, "make the demo's files", "1. make file a")
	w.want(w.cli("start"), fail.Refused, "--yes")
	a := w.cli("start", "--yes")
	id := w.only()
	w.want(a, fail.OK, "run "+id+": make the demo's files (3 steps)", "1/3 a: make file a", "3/3 c: done, ", "run "+id+": done")
	if a.out != "made b\n" {
		t.Errorf("stdout is the answer, got %q", a.out)
	}
	w.want(w.cli("runs", "list"), fail.OK, "RUN", id, "done", "demo files")
	if a := w.cli("runs", "list", "--state", "stuck,midway", "-H"); a.out != "" || a.code != 0 {
		t.Errorf("%+v", a)
	}
	w.want(w.cli("runs", "list", "--state", "lost"), fail.Usage, "not a state")
	show := w.cli("runs", "show", id[:4], "-v")
	w.want(show, fail.OK, "by operator@", "applied", `{"file":"b"}`, "tritonops runs undo "+id, "old, 7 bytes")
	if strings.Contains(show.out, "hunter2") {
		t.Error("an artifact is shown")
	}
}

func TestAFailedRunIsResumedFromTheCommandLine(t *testing.T) {
	w := newWorld(t)
	w.fail = "b"
	w.want(w.cli("start", "-y"), fail.Midway, `step 2/3 "b" failed: no space left on device`)
	id := w.only()
	w.want(w.cli("runs", "show", id), fail.OK, "midway", "no space left", "tritonops runs resume "+id)
	w.want(w.cli("start", "-y"), fail.Refused, "tritonops runs resume "+id)
	w.fail = ""
	dry := w.cli("runs", "resume", id, "-n")
	w.want(dry, fail.OK, "resume run "+id, "make file b (failed before)", "make file c")
	if w.files() != "a" || strings.Contains(dry.out, "file a") {
		t.Errorf("dry run: files %q, %s", w.files(), dry.out)
	}
	w.want(w.cli("runs", "resume", id), fail.Refused, "--yes")
	w.want(w.cli("runs", "resume", id, "-y"), fail.OK, "resumed: make the demo's files")
	if w.files() != "a b c" {
		t.Errorf("files %q", w.files())
	}
	w.want(w.cli("runs", "resume", id, "-y"), fail.OK, "nothing to resume")
}

func TestWithJTheEventsAreTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.fail = "b"
	w.want(w.cli("start", "-y", "-q"), fail.Midway)
	w.fail = ""
	a := w.cli("runs", "resume", w.only(), "-y", "-j")
	w.want(a, fail.OK)
	var names []string
	for l := range strings.Lines(a.out) {
		var ev struct {
			Event string
			At    time.Time
			Run   string
			State string
		}
		if err := json.Unmarshal([]byte(l), &ev); err != nil || ev.At.IsZero() || ev.Run != w.only() {
			t.Errorf("%q: %v", l, err)
		}
		names = append(names, ev.Event)
	}
	if got := strings.Join(names, " "); got != "run_started step_started step_done step_started step_done run_ended" {
		t.Errorf("events %s", got)
	}
	w.want(w.cli("runs", "undo", w.only(), "-n", "-j"), fail.OK, `"lines": [`, `"undo: make file c"`)
	if a := w.cli("start", "-y", "-o", "jsonl"); !strings.HasSuffix(a.out, "{\"File\":\"b\"}\n") || !strings.Contains(a.out, `"event":"step_done"`) {
		t.Errorf("%s", a.out)
	}
}

func TestAStuckUndoIsToldAndTriedAgainByHand(t *testing.T) {
	w := newWorld(t)
	w.want(w.cli("start", "-y"), fail.OK)
	id := w.only()
	w.jam = "b"
	w.want(w.cli("runs", "undo", id, "-y"), fail.Stuck, `stuck: undo of step 2/3 "b": device busy`, "tritonops runs show "+id)
	w.want(w.cli("runs", "show", id), fail.OK, "stuck", "not undone", "device busy")
	w.want(w.cli("runs", "resume", id, "-y"), fail.Stuck)
	w.jam = ""
	w.want(w.cli("runs", "undo", id, "-y"), fail.OK, "undone")
	if w.files() != "" {
		t.Errorf("files %q", w.files())
	}
}

func TestAnAbandonedRunIsForgottenWithItsArtifacts(t *testing.T) {
	w := newWorld(t)
	w.fail = "b"
	w.want(w.cli("start", "-y"), fail.Midway)
	id := w.only()
	w.want(w.cli("runs", "forget", id, "-y"), fail.Refused, "tritonops runs abandon "+id)
	w.want(w.cli("runs", "abandon", id, "-n"), fail.OK, "make file a: applied")
	w.want(w.cli("runs", "abandon", id, "-y"), fail.OK, "abandoned", "failed, may be applied in part")
	w.want(w.cli("runs", "forget", id, "-n"), fail.OK, `remove artifact "old"`)
	w.want(w.cli("runs", "forget", id, "ffffff", "-y"), fail.Refused, "run "+id+": forgotten", "removed artifact old, 7 bytes", `run "ffffff": not found`)
	if w.only() != "" {
		t.Errorf("left: %s", w.only())
	}
	w.want(w.cli("runs", "forget"), fail.Usage, "RUN: missing")
}

func TestADamagedRunIsForgottenOnlyByItsName(t *testing.T) {
	w := newWorld(t)
	w.want(w.cli("start", "-y"), fail.OK)
	id := w.only()
	if err := os.WriteFile(filepath.Join(RunsDir(w.root), id, "plan.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(w.cli("runs", "list"), fail.OK, id, "damaged")
	w.want(w.cli("runs", "show", id), fail.OK, "damaged: not JSON", "tritonops runs forget "+id)
	w.want(w.cli("runs", "forget", id, "-y"), fail.Refused, "--confirm "+id)
	w.want(w.cli("runs", "forget", id, "--confirm", id), fail.OK, "forgotten")
}

func TestAKindThatNobodyKnowsIsNamed(t *testing.T) {
	w := newWorld(t)
	w.want(w.cli("start", "-y"), fail.OK)
	e := procedure.Engine{Dir: RunsDir(w.root)}
	r, err := e.Show(w.only())
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Undo(t.Context(), r.ID, nil, nil)
	if fail.CodeOf(err) != fail.Refused || !strings.Contains(err.Error(), `does not know the kind "demo"`) {
		t.Errorf("%v", err)
	}
}

func TestCompletionOffersTheRunsAVerbIsFor(t *testing.T) {
	w := newWorld(t)
	w.fail = "c"
	w.want(w.cli("start", "-y"), fail.Midway)
	id := w.only()
	for verb, want := range map[string]bool{"show": true, "resume": true, "undo": true, "abandon": true, "forget": false} {
		a := w.cli("__complete", "runs", verb, "")
		if strings.Contains(a.out, id+"\tmidway, demo of demo files") != want {
			t.Errorf("%s: %s", verb, a.out)
		}
		if strings.Contains(w.cli("__complete", "runs", verb, id, "").out, id) && verb != "forget" {
			t.Errorf("%s takes one run only", verb)
		}
	}
}

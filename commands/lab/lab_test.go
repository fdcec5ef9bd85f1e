package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

// TestMain lets this test binary stand for the program, which detached labs and
// shims call.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lab" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		env, root := program(os.Stdin, os.Stdout, os.Stderr, nil)
		root.SetArgs(os.Args[1:])
		code := env.Report(root.ExecuteContext(ctx))
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// program builds the noun under a root as the commands package does.
func program(in, out, errs *os.File, vars map[string]string) (*cli.Env, *cobra.Command) {
	env := &cli.Env{UI: ui.New(ui.Config{In: in, Out: out, Err: errs}), Getenv: func(k string) string { return vars[k] }, Now: time.Now,
		Name: "tritonops", Globals: &cli.Globals{}}
	return env, root(env)
}

func root(env *cli.Env) *cobra.Command {
	r := &cobra.Command{Use: "tritonops", SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.Setup() }}
	env.Globals.AddFlags(r)
	r.AddCommand(New(env))
	return r
}

// run runs one command in this process.
func run(t *testing.T, vars map[string]string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{UI: ui.New(ui.Config{In: strings.NewReader(""), Out: &out, Err: &errs}), Getenv: func(k string) string { return vars[k] },
		Now: time.Now, Name: "tritonops", Globals: &cli.Globals{}}
	r := root(env)
	r.SetArgs(append([]string{"lab"}, args...))
	r.SetOut(&out)
	r.SetErr(&errs)
	code := env.Report(r.ExecuteContext(t.Context()))
	return code, out.String(), errs.String()
}

// want runs a command and checks its exit code and what it prints.
func want(t *testing.T, code fail.Code, text string, vars map[string]string, args ...string) string {
	t.Helper()
	got, out, errs := run(t, vars, args...)
	if got != int(code) || !strings.Contains(out+errs, text) {
		t.Errorf("lab %s: code %d, want %d and %q\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, text, out, errs)
	}
	return out
}

func TestALabFromUpToDown(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{dirVar: dir}
	want(t, fail.OK, "is up", nil, "up", "--dir", dir, "--instances", "2", "--channels", "--detach")
	t.Cleanup(func() {
		if _, err := lab.Down(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	want(t, fail.Held, "hint: tritonops lab status --dir", nil, "up", "--dir", dir, "--detach")
	want(t, fail.Held, "already up", nil, "up", "--dir", dir)
	want(t, fail.OK, "images1", vars, "status")
	var st lab.Status
	if err := json.Unmarshal([]byte(want(t, fail.OK, `"notice"`, vars, "status", "-j")), &st); err != nil || len(st.Instances) != 2 {
		t.Errorf("%v %+v", err, st)
	}
	want(t, fail.Usage, "say which with --instance", vars, "seed")
	want(t, fail.OK, "12 images", vars, "seed", "--instance", "images1", "--images", "12", "--seed", "4")
	want(t, fail.OK, "in Manta (", vars, "seed", "--instance", "images0", "--images", "6", "--stor", "mixed")
	want(t, fail.Usage, "unknown storage", vars, "seed", "--instance", "images0", "--stor", "tape")
	want(t, fail.Usage, "unknown size distribution", vars, "seed", "--instance", "images1", "--size-dist", "huge")
	want(t, fail.OK, "export TRITONOPS_ROOT='"+dir, vars, "env", "--instance", "images0")
	if out := want(t, fail.OK, "MANTA_KEY_ID", vars, "env", "--operator"); strings.Contains(out, "TRITONOPS_ROOT") {
		t.Errorf("operator: %s", out)
	}
	want(t, fail.Usage, "not in the lab", vars, "env", "--instance", "nope")
	want(t, fail.OK, "f1", vars, "fault", "add", "status", "--service", "imgapi", "--status", "500", "--count", "2")
	want(t, fail.OK, "status", vars, "fault", "list")
	want(t, fail.OK, "crash-mid-write", vars, "fault", "list", "--kinds")
	want(t, fail.Usage, "unknown kind", vars, "fault", "add", "meteor")
	want(t, fail.Usage, "KIND: missing", vars, "fault", "add")
	want(t, fail.OK, "1 removed", vars, "fault", "clear", "f1")
	want(t, fail.Usage, "not in force", vars, "fault", "clear", "f1")
	want(t, fail.OK, "imgapi: offline", vars, "instance", "crash", "images0")
	want(t, fail.OK, "haproxy: disabled", vars, "instance", "stop", "images0", "--service", "haproxy")
	want(t, fail.OK, "haproxy: online", vars, "instance", "start", "images0", "--service", "haproxy")
	want(t, fail.OK, "imgapi: online", vars, "instance", "restart", "images1")
	want(t, fail.OK, "rotated", vars, "instance", "cron", "images1")
	want(t, fail.OK, "done", vars, "key", "remove", "--instance", "images1")
	want(t, fail.Failed, "403", vars, "instance", "cron", "images1")
	want(t, fail.OK, "done", vars, "key", "add", "--instance", "images1")
	want(t, fail.OK, "images1", vars, "shim", "--dir", dir, "--instance", "images1", "mdata-get", "sdc:alias")
	want(t, 1, "No metadata", vars, "shim", "--dir", dir, "--instance", "images1", "mdata-get", "-x")
	want(t, fail.Usage, "in this order", vars, "shim", "x")
	want(t, fail.OK, "is down", vars, "down")
	want(t, fail.OK, "down already", vars, "down")
	want(t, fail.Unreachable, "hint: tritonops lab up", vars, "status")
}

func TestWhatUpRemembersAndWhereInstancesStore(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() {
		if _, err := lab.Down(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	for _, flags := range [][]string{{"--storage", "local", "--key-delay", "50ms", "--seed", "7"}, nil} {
		want(t, fail.OK, "is up", nil, append([]string{"up", "--dir", dir, "--detach"}, flags...)...)
		s, err := lab.Reflect(dir)
		if err != nil || s.KeyDelay != 50*time.Millisecond || s.Seed != 7 {
			t.Errorf("%v: %+v %v", flags, s, err)
		}
		want(t, fail.Refused, "local disk only", nil, "seed", "--dir", dir, "--stor", "manta", "--images", "2")
		want(t, fail.OK, "is down", nil, "down", "--dir", dir)
	}
	want(t, fail.Usage, `storage "tape"`, nil, "up", "--dir", t.TempDir(), "--storage", "tape")
}

func TestWhatALabCannotDoIsRefused(t *testing.T) {
	want(t, fail.Usage, "no lab named", nil, "status")
	want(t, fail.Refused, "no lab here", nil, "status", "--dir", t.TempDir())
	want(t, fail.Refused, "no lab here", nil, "down", "--dir", t.TempDir())
	for _, detach := range [][]string{nil, {"--detach"}} {
		want(t, fail.Refused, "2 data centers", nil, append([]string{"up", "--dir", t.TempDir(), "--dcs", "2"}, detach...)...)
	}
}

func TestUpInTheForegroundEndsWhenAsked(t *testing.T) {
	dir := t.TempDir()
	type result struct {
		code      int
		out, errs string
	}
	done := make(chan result)
	go func() {
		code, out, errs := run(t, nil, "up", "--dir", dir, "--instances", "0")
		done <- result{code, out, errs}
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if c, err := lab.Connect(dir); err == nil {
			if _, err := c.Status(t.Context()); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("did not come up")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if was, err := lab.Down(t.Context(), dir); err != nil || !was {
		t.Errorf("%v %v", was, err)
	}
	if r := <-done; r.code != 0 || !strings.Contains(r.out, "is up") || !strings.Contains(r.errs, lab.Notice) {
		t.Errorf("%+v", r)
	}
}

func TestPathsAreQuotedWhenTheyMust(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "/a b": "'/a b'", "it's": `'it'\''s'`, "": ""} {
		if got := quote(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

package commands

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestWrongWordsAreUsageErrorsWithAHint(t *testing.T) {
	for _, args := range [][]string{
		{}, {"bogus"}, {"version", "x"}, {"--bogus"}, {"version", "--bogus"}, {"docs"}, {"docs", "markdown"},
		{"docs", "pdf", "--dir", "/nonexistent"}, {"completion", "ksh"}, {"completion"}, {"help", "bogus"},
		{"version", "-o", "yaml"}, {"version", "-q", "-v"},
	} {
		code, out, errs := run(t, nil, append([]string{program}, args...)...)
		if code != 2 || out != "" || !strings.Contains(errs, "\nhint: see `tritonops") {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}

func TestAMistypedCommandIsSuggested(t *testing.T) {
	_, _, errs := run(t, nil, program, "vesrion")
	if !strings.Contains(errs, "did you mean version?") {
		t.Errorf("%q", errs)
	}
}

func TestUsageErrorsAreJSONWhereTheAnswerWouldBe(t *testing.T) {
	for _, args := range [][]string{{"--bogus", "-j"}, {"-j", "bogus"}, {"version", "--bogus", "-o", "jsonl"}} {
		_, _, errs := run(t, nil, append([]string{program}, args...)...)
		var e struct{ Error struct{ Code string } }
		if err := json.Unmarshal([]byte(errs), &e); err != nil || e.Error.Code != "usage" {
			t.Errorf("%q: %v: %q", args, err, errs)
		}
	}
	if _, _, errs := run(t, nil, program, "bogus", "--", "-j"); strings.HasPrefix(errs, "{") {
		t.Errorf("-j behind -- is an argument: %q", errs)
	}
}

func TestANameWhoseCommandIsNotBuiltSaysSo(t *testing.T) {
	built := Names()
	for _, a := range aliases() {
		code, out, errs := run(t, nil, "/opt/bin/"+a.name, "--help")
		if slices.Contains(built, a.name) {
			if code != 0 || !strings.Contains(out, a.name) {
				t.Errorf("%s: code %d, %q", a.name, code, out)
			}
			continue
		}
		want := a.name + ": this build of tritonops has no command `" + strings.Join(a.path, " ") + "`\n"
		if code != 2 || errs != want || out != "" {
			t.Errorf("%s: code %d, stdout %q, stderr %q", a.name, code, out, errs)
		}
	}
}

func TestAnUnknownNameIsTheWholeTree(t *testing.T) {
	code, out, _ := run(t, nil, "./tritonops-new", "version")
	if code != 0 || !strings.HasPrefix(out, "tritonops v0.0.0-test (commit 0000000, go") {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	for _, name := range Names() {
		walk(tree(t, name), func(cmd *cobra.Command) {
			path := cmd.CommandPath()
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("%s: short help %q: want a phrase without a period", path, cmd.Short)
			}
			leaf := !cmd.HasSubCommands()
			if leaf && !strings.Contains(cmd.Long, "EXIT STATUS") {
				t.Errorf("%s: the help lists no exit codes; use cli.Long", path)
			}
			if leaf && !strings.Contains(cmd.Long, "Runs on: ") {
				t.Errorf("%s: the help does not say where it runs; use cli.Long", path)
			}
			if cmd.Run != nil || cmd.PreRun != nil || cmd.PersistentPreRun != nil || cmd.PostRun != nil {
				t.Errorf("%s: has a hook that cannot fail; use the E form", path)
			}
		})
	}
}

func TestCommandsThatAskCanAlsoBeTriedOut(t *testing.T) {
	walk(tree(t, program), func(cmd *cobra.Command) {
		yes, dry := cmd.Flags().Lookup("yes"), cmd.Flags().Lookup("dry-run")
		if yes != nil && dry == nil {
			t.Errorf("%s: has --yes without --dry-run", cmd.CommandPath())
		}
		if yes != nil && dry != nil && (yes.Shorthand != "y" || dry.Shorthand != "n") {
			t.Errorf("%s: --yes is -y and --dry-run is -n", cmd.CommandPath())
		}
	})
}

func TestHelpWritesToStdoutAndSucceeds(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"version", "-h"}, {"help", "version"}} {
		code, out, errs := run(t, nil, append([]string{program}, args...)...)
		if code != 0 || errs != "" || !strings.Contains(out, "USAGE\n  tritonops") || !strings.Contains(out, "EXIT STATUS") {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}

func TestDocsWritesEveryPageAndLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.1")
	if err := os.WriteFile(other, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"man", "markdown"} {
		if code, _, errs := run(t, nil, program, "docs", form, "--dir", dir); code != 0 {
			t.Fatalf("docs %s: code %d, %s", form, code, errs)
		}
	}
	walk(tree(t, program), func(cmd *cobra.Command) {
		for _, ext := range []string{".1", ".md"} {
			b, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+ext))
			if err != nil {
				t.Fatal(err)
			}
			if cmd.HasAvailableFlags() && !strings.Contains(strings.ReplaceAll(string(b), `\-`, "-"), "--help") {
				t.Errorf("%s%s: does not list the flags", pageName(cmd), ext)
			}
		}
	})
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestRoffEscapesWhatWouldBeARequest(t *testing.T) {
	if got := roff(".so /etc/passwd\n'x \\fB -y"); got != "\\&.so /etc/passwd\n\\&'x \\efB \\-y" {
		t.Errorf("%q", got)
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	root := t.TempDir()
	state := filepath.Join(root, "data", "tritonops", "runs")
	etc := filepath.Join(root, "data", "imgapi", "etc")
	bin := t.TempDir()
	for _, dir := range []string{state, etc} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		filepath.Join(etc, "imgapi.config.json"): "{",
		filepath.Join(bin, "tritonops"):          "#!/bin/sh\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	future := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(state, future, future); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"PATH": bin, "SSH_AUTH_SOCK": filepath.Join(bin, "gone"), "TRITONOPS_ROOT": root}
	code, out, _ := run(t, vars, program, "doctor", "-j")
	var rep struct {
		Checks []struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 3 {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	want := map[string]string{
		"root": "ok", "state": "ok", "instance_config": "fault", "terminal": "ok",
		"names": "warning", "ssh_agent": "warning", "clock": "fault",
	}
	for _, c := range rep.Checks {
		if want[c.Name] != c.Status {
			t.Errorf("%s: %s, want %s", c.Name, c.Status, want[c.Name])
		}
		delete(want, c.Name)
	}
	if len(want) > 0 {
		t.Errorf("not checked: %v", want)
	}
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

type fixture struct {
	*Env
	out, err bytes.Buffer
	vars     map[string]string
}

// newEnv runs Setup on a command line of global flags.
func newEnv(t *testing.T, vars map[string]string, args ...string) (*fixture, error) {
	t.Helper()
	f := &fixture{vars: vars}
	f.Env = &Env{
		UI:      ui.New(ui.Config{In: strings.NewReader("y\n"), Out: &f.out, Err: &f.err}),
		Getenv:  func(k string) string { return f.vars[k] },
		Now:     time.Now,
		Name:    "tritonops",
		Globals: &Globals{},
	}
	cmd := &cobra.Command{Use: "tritonops"}
	f.Globals.AddFlags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return f, f.Setup()
}

func TestRootComesFromTheFlagThenTheEnvironmentThenIsSlash(t *testing.T) {
	vars := map[string]string{"TRITONOPS_ROOT": "/env"}
	for want, f := range map[string]func() (*fixture, error){
		"/flag/data/x": func() (*fixture, error) { return newEnv(t, vars, "--root", "/flag/") },
		"/env/data/x":  func() (*fixture, error) { return newEnv(t, vars) },
		"/data/x":      func() (*fixture, error) { return newEnv(t, nil) },
	} {
		env, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if got := env.Path("data", "x"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	env, err := newEnv(t, nil, "--root", "here")
	wd, _ := os.Getwd()
	if err != nil || env.Globals.Root != filepath.Join(wd, "here") {
		t.Errorf("relative root became %s, %v", env.Globals.Root, err)
	}
}

func TestContradictingGlobalsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"-o", "yaml"}, {"-q", "-v"}, {"-j", "-o", "jsonl"}} {
		if _, err := newEnv(t, nil, args...); fail.CodeOf(err) != fail.Usage {
			t.Errorf("%v: %v", args, err)
		}
	}
}

type row struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

func TestPrintHasOneAnswerInThreeForms(t *testing.T) {
	rows := []row{{"a", 1}, {"b", 2}}
	for want, args := range map[string][]string{
		"NAME   SIZE\na      1\nb      2\n": {},
		"a   1\nb   2\n":                    {"-H"},
		"{\"name\":\"a\",\"size\":1}\n{\"name\":\"b\",\"size\":2}\n":                                                {"-o", "jsonl"},
		"[\n  {\n    \"name\": \"a\",\n    \"size\": 1\n  },\n  {\n    \"name\": \"b\",\n    \"size\": 2\n  }\n]\n": {"-j"},
	} {
		f, err := newEnv(t, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Print(rows, func(t *ui.Table) {
			t.Header("NAME", "SIZE")
			for _, r := range rows {
				t.Row(r.Name, r.Size)
			}
		})
		if err != nil || f.out.String() != want {
			t.Errorf("%v: %v\n%s", args, err, &f.out)
		}
	}
}

func TestReportPrintsOnceWithHintsAndReturnsTheCode(t *testing.T) {
	err := fail.Hint(fail.New(fail.Held, "lease \x1b[2J: held, password=geheim"), "tritonops imgapi instances")
	f, _ := newEnv(t, nil)
	if code := f.Report(fmt.Errorf("backup: %w", err)); code != 7 {
		t.Errorf("code %d", code)
	}
	want := "tritonops: backup: lease \\x1b[2J: held, password=[redacted]\nhint: tritonops imgapi instances\n"
	if f.err.String() != want {
		t.Errorf("got  %q\nwant %q", &f.err, want)
	}
}

func TestReportInJSONModeIsOneJSONObject(t *testing.T) {
	f, _ := newEnv(t, nil, "-o", "jsonl")
	code := f.Report(fail.Hint(fail.New(fail.Unreachable, "manta: 403"), "add the key"))
	var got map[string]map[string]any
	if err := json.Unmarshal(f.err.Bytes(), &got); err != nil {
		t.Fatal(err, f.err.String())
	}
	e := got["error"]
	if code != 8 || e["code"] != "unreachable" || e["exit_code"] != 8.0 || e["message"] != "manta: 403" || fmt.Sprint(e["hints"]) != "[add the key]" {
		t.Errorf("code %d, %v", code, e)
	}
	if f.out.Len() > 0 {
		t.Errorf("stdout: %q", &f.out)
	}
}

func TestEveryExitCodeHasAName(t *testing.T) {
	for _, r := range fail.Table() {
		if _, ok := codeNames()[r.Code]; !ok && r.Code != fail.OK {
			t.Errorf("code %d has no name", r.Code)
		}
	}
}

func TestSilentAndClosedOutputPrintNothing(t *testing.T) {
	for err, want := range map[error]int{fail.Silent(fail.Faults): 3, ui.ErrOutputClosed: 0} {
		f, _ := newEnv(t, nil)
		if code := f.Report(fmt.Errorf("x: %w", err)); code != want || f.err.Len() > 0 {
			t.Errorf("%v: code %d, stderr %q", err, code, &f.err)
		}
	}
	f, _ := newEnv(t, nil)
	if code := f.Report(nil); code != 0 || f.err.Len() > 0 {
		t.Errorf("nil: code %d, stderr %q", code, &f.err)
	}
}

// answers is a prompter that says what it was asked.
type answers struct {
	ui.Prompter
	asked []string
	yes   bool
}

func (a *answers) Confirm(_ context.Context, q ui.Question) (bool, error) {
	a.asked = append(a.asked, "confirm "+q.Text+" "+q.Flag)
	return a.yes, nil
}

func (a *answers) TypeName(_ context.Context, q ui.Question, name string) (bool, error) {
	a.asked = append(a.asked, "type "+q.Text+" "+q.Flag)
	return a.yes, nil
}

func TestWhoAnswersAQuestion(t *testing.T) {
	plain := procedure.Question{Title: "Restore images", Lines: []string{"get 3 files"}}
	named := procedure.Question{Title: "Retire images", Lines: []string{"delete it"}, Irreversible: []string{"delete it"}, TypeName: "images"}
	for name, tc := range map[string]struct {
		q     procedure.Question
		m     Mutation
		yes   bool
		want  bool
		code  fail.Code
		asked string
	}{
		"plain, asked":             {q: plain, yes: true, want: true, asked: "confirm Go on? --yes"},
		"plain, declined":          {q: plain, asked: "confirm Go on? --yes"},
		"plain, --yes":             {q: plain, m: Mutation{Yes: true}, want: true},
		"plain, --confirm is not":  {q: plain, m: Mutation{Confirm: "images"}, asked: "confirm Go on? --yes"},
		"named, --yes is not":      {q: named, m: Mutation{Yes: true}, yes: true, want: true, asked: "type Go on? --confirm images"},
		"named, --confirm":         {q: named, m: Mutation{Confirm: "images"}, want: true},
		"named, --confirm another": {q: named, m: Mutation{Confirm: "image", Yes: true}, code: fail.Refused},
	} {
		f, _ := newEnv(t, nil)
		p := &answers{yes: tc.yes}
		f.SetPrompter(p)
		got, err := f.Asker(&tc.m).Ask(t.Context(), tc.q)
		if got != tc.want || fail.CodeOf(err) != tc.code || strings.Join(p.asked, ";") != tc.asked {
			t.Errorf("%s: %v, %v, asked %q", name, got, err, p.asked)
		}
		if err == nil && !strings.Contains(f.err.String(), tc.q.Lines[0]) {
			t.Errorf("%s: the plan was not shown: %q", name, &f.err)
		}
	}
}

func TestWithoutATerminalOnlyTheFlagAnswers(t *testing.T) {
	f, _ := newEnv(t, nil)
	for _, q := range []procedure.Question{{Title: "Restore"}, {Title: "Retire", TypeName: "images"}} {
		ok, err := f.Asker(&Mutation{}).Ask(t.Context(), q)
		if ok || fail.CodeOf(err) != fail.Refused || len(fail.Hints(err)) == 0 {
			t.Errorf("%s: %v, %v", q.Title, ok, err)
		}
	}
}

func TestThePlanIsNotMixedWithAJSONError(t *testing.T) {
	q := procedure.Question{Title: "Restore", Lines: []string{"get 3 files"}}
	for _, tc := range []struct {
		args []string
		yes  bool
		want bool
	}{
		{nil, false, true}, {nil, true, true}, {[]string{"-j"}, false, false}, {[]string{"-j"}, true, true}, {[]string{"-q"}, true, false},
	} {
		f, _ := newEnv(t, nil, tc.args...)
		_, _ = f.Asker(&Mutation{Yes: tc.yes}).Ask(t.Context(), q)
		if shown := f.err.Len() > 0; shown != tc.want {
			t.Errorf("%v, --yes %v: shown %v", tc.args, tc.yes, shown)
		}
	}
}

func TestPlanTextMarksWhatCannotBeUndone(t *testing.T) {
	got := PlanText(procedure.Question{Title: "T", Lines: []string{"one", "two\x1b"}, Irreversible: []string{"two\x1b"}}, ui.Paint{})
	want := "T\n   1. one\n   2. two\\x1b  (cannot be undone)\n"
	if got != want {
		t.Errorf("%q", got)
	}
}

func TestSecretsAreResolvedAndRedactedAfterwards(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _ := newEnv(t, map[string]string{"PW": "from-env"})
	for want, ref := range map[string]procedure.SecretRef{
		"from-file": {Name: "a", From: procedure.FromFile, Source: file},
		"from-env":  {Name: "b", From: procedure.FromEnv, Source: "PW"},
	} {
		got, err := f.Secrets().Secret(t.Context(), ref)
		if err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
		if s := f.UI.Redactor.Redact(want); s == want {
			t.Errorf("%s is not redacted", want)
		}
	}
	for _, ref := range []procedure.SecretRef{
		{From: procedure.FromEnv, Source: "UNSET"},
		{From: procedure.FromPrompt, Prompt: "password", Flag: "--password-file FILE"},
	} {
		if _, err := f.Secrets().Secret(t.Context(), ref); fail.CodeOf(err) != fail.Refused {
			t.Errorf("%s: %v", ref.From, err)
		}
	}
}

func TestLongListsTheExitCodesInOrder(t *testing.T) {
	got := Long("text\n", OnHeadnode, fail.Held, fail.Usage)
	want := "text\n\nRuns on: the headnode's global zone\n\nEXIT STATUS\n" +
		"  0    done, or nothing to do\n" +
		"  2    usage: wrong words on the command line\n" +
		"  7    held by someone else"
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0": 0} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "d", "-1h", "-3d", "1.5d", "1y", "300000d", "2147483647w"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func TestBytesAndPercents(t *testing.T) {
	for in, want := range map[string]int64{"512": 512, "64k": 64 << 10, "1.5GiB": 3 << 29, "2MB": 2 << 20, "1T": 1 << 40, "7B": 7, "3 KiB": 3072} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "k", "-1", "1x", "1ib2", "NaN", "Inf", "9e30", "1kk"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
	for in, want := range map[string]float64{"10%": 0.1, "12.5": 0.125, "0": 0, "100%": 1} {
		if got, err := ParsePercent(in); err != nil || math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "%", "-1", "101", "NaN", "10%%"} {
		if got, err := ParsePercent(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func TestValueFlagsShowTheirDefaultsAsTheyAreTyped(t *testing.T) {
	var (
		d time.Duration
		n int64
		p float64
	)
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	DurationVar(f, &d, "keep", 30*24*time.Hour, "keep")
	BytesVar(f, &n, "part", 64<<10, "part")
	PercentVar(f, &p, "max", 0.1, "max")
	for _, want := range []string{"(default 30d)", "(default 65536)", "(default 10%)"} {
		if !strings.Contains(f.FlagUsages(), want) {
			t.Errorf("usage lacks %s:\n%s", want, f.FlagUsages())
		}
	}
	if err := f.Parse([]string{"--keep", "1w", "--part=1k", "--max", "50%"}); err != nil {
		t.Fatal(err)
	}
	if d != 7*24*time.Hour || n != 1024 || p != 0.5 {
		t.Errorf("%v %v %v", d, n, p)
	}
	if err := f.Parse([]string{"--keep", "soon"}); err == nil || errors.Is(err, pflag.ErrHelp) {
		t.Errorf("soon: %v", err)
	}
}

func FuzzParsersNeverPanicNorGoNegative(f *testing.F) {
	f.Add("1.5GiB")
	f.Add("10%")
	f.Add("2w")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("%q: %v", s, d)
		}
		if n, err := ParseBytes(s); err == nil && n < 0 {
			t.Errorf("%q: %v", s, n)
		}
		if p, err := ParsePercent(s); err == nil && !(p >= 0 && p <= 1) {
			t.Errorf("%q: %v", s, p)
		}
	})
}

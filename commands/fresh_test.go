package commands

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/ui"
)

// update regenerates the committed files: make completions docs.
var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// run runs a command line in process and returns what it printed.
func run(t *testing.T, vars map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), Process{
		Args: args, In: strings.NewReader(""), Out: &o, Err: &e,
		Getenv: func(k string) string { return vars[k] }, Now: time.Now,
		Build: Build{Version: "v0.0.0-test", Commit: "0000000"},
	})
	return code, o.String(), e.String()
}

// tree builds the command tree of a name.
func tree(t *testing.T, name string) *cobra.Command {
	t.Helper()
	env := &cli.Env{
		UI: ui.New(ui.Config{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}), Name: name, Now: time.Now,
		Getenv: func(string) string { return "" }, Globals: &cli.Globals{},
	}
	root, err := newRoot(env, Build{Version: "v", Commit: "c"}, name)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// fresh compares a directory of generated files with what would be generated
// now: the same files with the same content, no others.
func fresh(t *testing.T, dir string, pages []page) {
	t.Helper()
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := writePages(dir, pages); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := map[string]string{}
	for _, p := range pages {
		want[p.name] = string(p.text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := want[e.Name()]; !ok {
			t.Errorf("%s/%s: nothing generates it; run make completions docs", dir, e.Name())
		} else if text != string(got) {
			t.Errorf("%s/%s: stale; run make completions docs", dir, e.Name())
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("%s/%s: missing; run make completions docs", dir, name)
	}
}

func TestCompletionsAreFresh(t *testing.T) {
	var pages []page
	for _, name := range Names() {
		for shell, file := range map[string]string{"bash": name + ".bash", "zsh": "_" + name, "fish": name + ".fish"} {
			code, out, errs := run(t, nil, name, "completion", shell)
			if code != 0 || !strings.Contains(out, name) {
				t.Fatalf("%s completion %s: code %d, %s", name, shell, code, errs)
			}
			pages = append(pages, page{file, []byte(out)})
		}
	}
	fresh(t, "../completions", pages)
}

func TestTheReferenceIsFresh(t *testing.T) {
	fresh(t, "../docs/reference", markdownPages(tree(t, program)))
}

func TestTheManPagesAreFresh(t *testing.T) {
	fresh(t, "../docs/man", manPages(tree(t, program)))
}

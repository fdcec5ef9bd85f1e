// Package commands is the command tree of tritonops. [Main] runs one command
// line and returns the exit code; the nouns are packages of their own under
// it, and what they share is commands/cli.
package commands

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Process is what a command line has of the process around it.
type Process struct {
	Args     []string // with the program's name first
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time
	Build    Build
}

// Main runs one command line and returns the exit code. Cancelling ctx stops
// the command at the next point where it can stop cleanly.
func Main(ctx context.Context, p Process) int {
	name := programName(p.Args)
	build := p.Build.resolve()
	env := &cli.Env{
		UI:      ui.New(ui.Config{In: p.In, Out: p.Out, Err: p.Err, Term: p.Getenv("TERM")}),
		Getenv:  p.Getenv,
		Now:     p.Now,
		Name:    name,
		Version: build.Version,
		Globals: &cli.Globals{},
	}
	root, err := newRoot(env, build, name)
	if err != nil {
		return env.Report(err)
	}
	var args []string
	if len(p.Args) > 1 {
		args = p.Args[1:]
	}
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(env.UI.Out())
	root.SetErr(env.UI.Err())
	err = root.ExecuteContext(ctx)
	if fail.CodeOf(err) == fail.Usage && wantsJSON(args) {
		env.Globals.Output = cli.JSON // the flags may not have been read to the end
	}
	return env.Report(err)
}

// wantsJSON finds a request for JSON in a command line that could not be parsed.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	for i, a := range args {
		switch a {
		case "-j", "--json", "-ojson", "-ojsonl", "--output=json", "--output=jsonl":
			return true
		case "-o", "--output":
			if i+1 < len(args) && (args[i+1] == "json" || args[i+1] == "jsonl") {
				return true
			}
		}
	}
	return false
}

// Package cli is what every command of tritonops is made of: the environment
// it runs in, the global flags, how it prints its answer, how it asks, and how
// its errors become text and an exit code.
//
// A noun package (commands/imgapi, commands/runs, ...) exports
//
//	func New(env *cli.Env) *cobra.Command
//
// and builds its verbs from here: an options struct, flags bound into it, a
// RunE that calls into pkg and prints with [Env.Print]. Nothing below commands
// knows this package.
package cli

import (
	"path/filepath"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Env is everything a command may use of the process it runs in. Commands have
// no other way to the streams, the environment or the clock.
type Env struct {
	UI      *ui.UI
	Getenv  func(string) string
	Now     func() time.Time
	Name    string // what the program was called as: "tritonops", "imgapiadm", ...
	Version string // of this build, for journals and user agents
	Globals *Globals

	prompter ui.Prompter
	ready    bool
}

// Prompter returns the way to ask questions; it refuses them all off a
// terminal. Commands that change something use [Env.Asker] instead.
func (e *Env) Prompter() ui.Prompter {
	if e.prompter == nil {
		e.prompter = e.UI.NewPrompter()
	}
	return e.prompter
}

// SetPrompter replaces the prompter, for tests of commands.
func (e *Env) SetPrompter(p ui.Prompter) { e.prompter = p }

// Path returns a local path under the root: Path("data", "imgapi").
func (e *Env) Path(elem ...string) string {
	return filepath.Join(append([]string{e.Globals.Root}, elem...)...)
}

// StateDir is where tritonops keeps its own files: <root>/data/tritonops.
func (e *Env) StateDir() string { return e.Path("data", "tritonops") }

// Setup checks the global flags and hands them to the UI. The root command runs
// it before every command; a second call does nothing.
func (e *Env) Setup() error {
	if e.ready {
		return nil
	}
	g := e.Globals
	if err := g.finish(e.Getenv); err != nil {
		return err
	}
	root, err := filepath.Abs(g.Root)
	if err != nil {
		return fail.New(fail.Usage, "--root %s: %w", g.Root, err)
	}
	g.Root, e.ready = root, true
	e.UI.Set(ui.Settings{NoColor: g.NoColor, Quiet: g.Quiet, Verbose: g.Verbose})
	return nil
}

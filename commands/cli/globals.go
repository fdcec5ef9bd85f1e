package cli

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Output is a form of the answer on stdout.
type Output string

// The output forms of -o.
const (
	Table Output = "table" // for people
	JSON  Output = "json"  // one indented document
	JSONL Output = "jsonl" // one line per element
)

// Globals are the flags every command understands.
type Globals struct {
	Root     string // prefix of every local path; "/" unless set
	Output   Output
	NoHeader bool
	Quiet    bool
	Verbose  bool
	NoColor  bool

	json bool // -j
}

// AddFlags binds the global flags to a root command.
func (g *Globals) AddFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&g.Root, "root", "", "`DIR` before every local path (default: $TRITONOPS_ROOT, else /)")
	f.StringVarP((*string)(&g.Output), "output", "o", string(Table), "`FORM` of the answer: table, json or jsonl")
	f.BoolVarP(&g.json, "json", "j", false, "the same as -o json")
	f.BoolVarP(&g.NoHeader, "no-header", "H", false, "leave the header line out of tables")
	f.BoolVarP(&g.Quiet, "quiet", "q", false, "no notes and no progress on stderr")
	f.BoolVarP(&g.Verbose, "verbose", "v", false, "say more")
	f.BoolVar(&g.NoColor, "no-color", false, "no colour (also with $NO_COLOR set)")
	// The only error is a flag that does not exist; both were made above.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{string(Table), string(JSON), string(JSONL)}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkPersistentFlagDirname("root")
}

// WantsJSON says whether the answer, and with it an error, is to be JSON.
func (g *Globals) WantsJSON() bool { return g.json || g.Output == JSON || g.Output == JSONL }

// finish resolves what may come from elsewhere and refuses contradictions.
func (g *Globals) finish(getenv func(string) string) error {
	if g.Root == "" {
		g.Root = getenv("TRITONOPS_ROOT")
	}
	if g.Root == "" {
		g.Root = "/"
	}
	g.NoColor = g.NoColor || getenv("NO_COLOR") != ""
	if g.Quiet && g.Verbose {
		return fail.New(fail.Usage, "-q and -v: contradict each other")
	}
	switch g.Output {
	case Table:
		if g.json {
			g.Output = JSON
		}
	case JSON:
	case JSONL:
		if g.json {
			return fail.New(fail.Usage, "-j and -o jsonl: contradict each other")
		}
	default:
		return fail.New(fail.Usage, "-o %s: not an output form: table, json or jsonl", g.Output)
	}
	return nil
}

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Place says where a verb can run; it is a line of the verb's help.
type Place string

// The places.
const (
	Anywhere   Place = "any machine"
	InInstance Place = "the IMGAPI instance's zone, or any machine that has its files under --root"
	OnHeadnode Place = "the headnode's global zone"
)

// Long assembles a verb's help: what it does and what it does not, where it
// runs, and the exit codes it can end with (0 is always among them).
func Long(text string, on Place, codes ...fail.Code) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nRuns on: %s\n\nEXIT STATUS\n", strings.TrimSpace(text), on)
	for _, row := range fail.Table() {
		if row.Code == fail.OK || slices.Contains(codes, row.Code) {
			fmt.Fprintf(&b, "  %-3d  %s\n", row.Code, row.Meaning)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// Usage is the error for wrong words on the command line of cmd.
func Usage(cmd *cobra.Command, format string, args ...any) error {
	return fail.Hint(fail.New(fail.Usage, format, args...), "see `%s --help`", cmd.CommandPath())
}

// NoArgs refuses arguments.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage(cmd, "%q: takes no argument", args[0])
	}
	return nil
}

// Args wants exactly the named arguments: Args("RUN", "STEP").
func Args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return Usage(cmd, "%s: missing", strings.Join(names[len(args):], " "))
		case len(args) > len(names):
			return Usage(cmd, "%q: one argument too many", args[len(names)])
		}
		return nil
	}
}

// AtMost wants no more than n arguments.
func AtMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return Usage(cmd, "%q: one argument too many", args[n])
		}
		return nil
	}
}

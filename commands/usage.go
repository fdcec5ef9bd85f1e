package commands

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// usage is the part of a help text below the long description.
func usage(cmd *cobra.Command) error { return writeUsage(cmd.OutOrStdout(), cmd) }

func writeUsage(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "USAGE\n  %s\n", useLine(cmd))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nALSO\n  %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if subs := visible(cmd); len(subs) > 0 {
		width := 0
		for _, sub := range subs {
			width = max(width, len(sub.Name()))
		}
		b.WriteString("\nCOMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, "  %-*s   %s\n", width, sub.Name(), sub.Short)
		}
	}
	if f := cmd.NonInheritedFlags(); f.HasAvailableFlags() && cmd.HasParent() {
		fmt.Fprintf(&b, "\nFLAGS\n%s", f.FlagUsages())
	}
	if f := cmd.InheritedFlags(); f.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nGLOBAL FLAGS\n%s", f.FlagUsages())
	} else if !cmd.HasParent() {
		fmt.Fprintf(&b, "\nGLOBAL FLAGS\n%s", cmd.Flags().FlagUsages())
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nEXAMPLES\n%s\n", strings.Trim(cmd.Example, "\n"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

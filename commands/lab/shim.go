package lab

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
)

// newShim is what the shims on an instance's PATH call. Its words are another
// command's, so they are not parsed as flags of ours.
func newShim(o *options) *cobra.Command {
	return &cobra.Command{
		Use:                "shim --dir DIR --instance NAME COMMAND [ARGUMENTS]",
		Hidden:             true,
		Short:              "Act as a command of an instance's zone",
		Long:               cli.Long("shim does what the named command does in a real zone. The exit status is that command's.", cli.Anywhere),
		DisableFlagParsing: true,
		Args:               cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 5 || args[0] != "--dir" || args[2] != "--instance" {
				return cli.Usage(cmd, "want --dir DIR --instance NAME COMMAND, in this order")
			}
			call := lab.ShimCall{Dir: args[1], Instance: args[3], Name: args[4], Args: args[5:],
				Stdin: o.env.UI.In(), Stdout: o.env.UI.Out(), Stderr: o.env.UI.Err()}
			if status := call.Run(cmd.Context()); status != 0 {
				return fail.Silent(fail.Code(status))
			}
			return nil
		},
	}
}

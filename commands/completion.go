package commands

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
)

func newCompletion(env *cli.Env) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script for a shell",
		Long: cli.Long(`completion prints a script that makes the shell complete commands, flags and the
names of things: run ids, images, generations of a backup.

  bash   source <(`+env.Name+` completion bash)
  zsh    `+env.Name+` completion zsh > "${fpath[1]}/_`+env.Name+`"
  fish   `+env.Name+` completion fish > ~/.config/fish/completions/`+env.Name+`.fish`,
			cli.Anywhere, fail.Usage),
		Args:      cli.Args("SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := env.UI.Out()
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			case "fish":
				return cmd.Root().GenFishCompletion(out, true)
			}
			return cli.Usage(cmd, "%q: not a shell known here: bash, zsh or fish", args[0])
		},
	}
}

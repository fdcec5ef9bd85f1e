package commands

import (
	"io"

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
				if err := cmd.Root().GenBashCompletionV2(out, true); err != nil {
					return err
				}
				_, err := io.WriteString(out, bareBash)
				return err
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			case "fish":
				return cmd.Root().GenFishCompletion(out, true)
			}
			return cli.Usage(cmd, "%q: not a shell known here: bash, zsh or fish", args[0])
		},
	}
}

// bareBash stands in for the one function that the generated script wants from
// the bash-completion package, which a zone does not have. It defines nothing
// where the package is, or loads it later.
const bareBash = `
if ! declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
    # Words as the shell splits them, those around = and : put together again.
    _get_comp_words_by_ref()
    {
        local i word rest=${COMP_LINE:0:COMP_POINT} glue=
        words=() cword=-1
        for ((i = 0; i <= COMP_CWORD; i++)); do
            word=${COMP_WORDS[i]}
            if [[ $rest != [[:space:]]* && $cword -ge 0 && ( $glue || $word == [=:]* ) ]]; then
                words[cword]+=$word
            else
                words[++cword]=$word
            fi
            [[ $word == *[=:] ]] && glue=1 || glue=
            rest=${rest#*"$word"}
        done
        cur=${words[cword]}
        prev=
        ((cword > 0)) && prev=${words[cword-1]}
        return 0
    }
fi
`

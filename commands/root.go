package commands

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/commands/imgapi"
	"github.com/tritonops/tritonops/commands/lab"
	"github.com/tritonops/tritonops/commands/runs"
)

// nouns builds the noun groups. Building must stay cheap: it happens at every
// start, completion included.
func nouns(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{
		imgapi.New(env),
		runs.New(env, imgapi.Kinds(env)),
		lab.New(env),
	}
}

// newRoot builds the tree for the name the program was called by.
func newRoot(env *cli.Env, b Build, name string) (*cobra.Command, error) {
	root := &cobra.Command{
		Use:   program,
		Short: "Operate Triton DataCenter image servers",
		Long: cli.Long(`tritonops operates standalone Triton image servers (IMGAPI): it tells what is
wrong with one, backs it up to Manta, and brings it back.

The answer goes to stdout, everything else to stderr. Commands that change
something show what will change and ask first.`, cli.Anywhere),
	}
	cmds := nouns(env)
	if name == program {
		root.AddCommand(cmds...)
		root.AddCommand(newDoctor(env, b), newDocs(env))
	} else {
		sub, err := aliasRoot(cmds, name)
		if err != nil {
			return nil, err
		}
		root = sub
	}
	root.AddCommand(newVersion(env, b), newCompletion(env))
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	root.SetUsageFunc(usage)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	env.Globals.AddFlags(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return cli.Usage(cmd, "%w", err) })
	finish(env, root)
	return root, nil
}

// finish gives every command of the tree what all have in common: usage errors
// with their exit code, an answer to a missing or mistyped verb, and the global
// flags in force before anything runs.
func finish(env *cli.Env, cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.DisableFlagsInUseLine = true
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = noVerb
		cmd.Use = cmd.Name() + " COMMAND"
	}
	checkArgs(cmd)
	setUpFirst(env, cmd)
	for _, sub := range cmd.Commands() {
		finish(env, sub)
	}
}

// noVerb answers a group that was called without one of its verbs: its help,
// but on stderr and with a usage error, so that a script with an empty variable
// does not take it for success.
func noVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if err := writeUsage(cmd.ErrOrStderr(), cmd); err != nil {
			return err
		}
		return cli.Usage(cmd, "no command given")
	}
	text := fmt.Sprintf("%q: not a command of %s", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return cli.Usage(cmd, "%s", text)
}

// checkArgs turns everything that is wrong with the words of a command line
// into a usage error, before any hook of the command runs.
func checkArgs(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cli.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return asUsage(cmd, err)
		}
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return asUsage(cmd, err)
		}
		if err := cmd.ValidateFlagGroups(); err != nil {
			return asUsage(cmd, err)
		}
		return nil
	}
}

// setUpFirst runs Env.Setup before a command's own code, completion included.
func setUpFirst(env *cli.Env, cmd *cobra.Command) {
	for _, hook := range []*func(*cobra.Command, []string) error{&cmd.RunE, &cmd.PersistentPreRunE, &cmd.PreRunE} {
		if run := *hook; run != nil {
			*hook = func(cmd *cobra.Command, args []string) error {
				if err := env.Setup(); err != nil {
					return asUsage(cmd, err)
				}
				return run(cmd, args)
			}
		}
	}
	if complete := cmd.ValidArgsFunction; complete != nil {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if env.Setup() != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return complete(cmd, args, word)
		}
	}
}

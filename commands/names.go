package commands

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
)

// program is the name of the whole tree.
const program = "tritonops"

// alias is another name the binary answers to, and the command that is its root
// then.
type alias struct {
	name string
	path []string
}

// aliases lists the names. One whose command this build does not have answers
// with an error; links and completions are made for the others only.
func aliases() []alias {
	return []alias{
		{"imgapiadm", []string{"imgapi"}},
		{"triton-multidc", []string{"multidc"}},
		{"sdc-ufds-m2s", []string{"multidc", "couple"}},
		{"sdc-healthcheck", []string{"health", "report"}},
	}
}

// programName is the base of argv[0]. A name that is no alias, such as that of
// a renamed copy, means the whole tree.
func programName(args []string) string {
	if len(args) > 0 {
		base := filepath.Base(args[0])
		if slices.ContainsFunc(aliases(), func(a alias) bool { return a.name == base }) {
			return base
		}
	}
	return program
}

// Names returns every name this build answers to, the full tree's first.
func Names() []string {
	names := []string{program}
	for _, a := range aliases() {
		if takeNoun(nouns(&cli.Env{Globals: &cli.Globals{}}), a.path) != nil {
			names = append(names, a.name)
		}
	}
	return names
}

// aliasRoot returns the command that is the root under an alias, renamed.
func aliasRoot(cmds []*cobra.Command, name string) (*cobra.Command, error) {
	i := slices.IndexFunc(aliases(), func(a alias) bool { return a.name == name })
	a := aliases()[i]
	cmd := takeNoun(cmds, a.path)
	if cmd == nil {
		return nil, fail.New(fail.Usage, "this build of %s has no command `%s`", program, strings.Join(a.path, " "))
	}
	_, args, _ := strings.Cut(cmd.Use, " ")
	cmd.Use = strings.TrimSpace(name + " " + args)
	return cmd, nil
}

// takeNoun finds the command at path and cuts it off its parent; nil if there
// is none.
func takeNoun(cmds []*cobra.Command, path []string) *cobra.Command {
	for _, c := range cmds {
		if c.Name() != path[0] {
			continue
		}
		if len(path) == 1 {
			if c.HasParent() {
				c.Parent().RemoveCommand(c)
			}
			return c
		}
		return takeNoun(c.Commands(), path[1:])
	}
	return nil
}

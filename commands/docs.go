package commands

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// page is one generated file.
type page struct {
	name string
	text []byte
}

func newDocs(env *cli.Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "docs markdown|man --dir DIR",
		Short: "Write the command reference",
		Long: cli.Long(`docs writes the reference of every command as Markdown files or man pages into a
directory, which is made if it does not exist. Files of the same names are
replaced, others stay.`, cli.Anywhere, fail.Failed, fail.Usage),
		Example:   "  tritonops docs man --dir /usr/share/man/man1",
		Args:      cli.Args("FORMAT"),
		ValidArgs: []string{"markdown", "man"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var pages []page
			switch args[0] {
			case "markdown":
				pages = markdownPages(cmd.Root())
			case "man":
				pages = manPages(cmd.Root())
			default:
				return cli.Usage(cmd, "%q: not a form of documentation: markdown or man", args[0])
			}
			if err := writePages(dir, pages); err != nil {
				return err
			}
			env.UI.Say("%d files written to %s", len(pages), dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`DIR` to write to")
	// The only errors are flags that do not exist; this one was just made.
	_ = cmd.MarkFlagRequired("dir")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// writePages writes the files that are missing or differ.
func writePages(dir string, pages []page) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		path := filepath.Join(dir, p.name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, p.text) {
			continue
		}
		if err := durable.WriteFile(path, p.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

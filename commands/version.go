package commands

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Build says what this binary was made from; the linker sets it, and what it
// left empty is read from the binary's own build information.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (b Build) resolve() Build {
	b.Go, b.OS, b.Arch = runtime.Version(), runtime.GOOS, runtime.GOARCH
	if b.Version != "" && b.Commit != "" {
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if ok && b.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "unreleased"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func newVersion(env *cli.Env, b Build) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Long:  cli.Long("version prints the version, the commit it was built from, the Go release and the platform.", cli.Anywhere),
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return env.PrintText(b, func(u *ui.UI) error {
				return u.Printf("%s %s (commit %s, %s, %s/%s)\n", program, b.Version, b.Commit, b.Go, b.OS, b.Arch)
			})
		},
	}
}

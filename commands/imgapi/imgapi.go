// Package imgapi is the command group that operates a standalone IMGAPI
// instance. Its verbs run in the instance's zone, or anywhere with --root
// pointing at the instance's files.
package imgapi

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/instance"
)

// New returns the group with all its verbs.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "imgapi",
		Short: "Operate a standalone image server (IMGAPI)",
		Long: cli.Long(`Operates one standalone IMGAPI instance: a zone that runs the stock image
server in mode public or private. The image server of a data center (mode dc)
is refused.`, cli.InInstance),
	}
	f := &instanceFlags{}
	f.addFlags(cmd)
	cmd.AddCommand(
		newStatus(env, f),
		newBackup(env, f),
		newRestore(env, f),
		newCheckFiles(env, f),
		newConfig(env, f),
	)
	return cmd
}

func newStatus(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &statusOptions{
		env:   env,
		load:  func() (*instance.Instance, error) { return f.load(env) },
		url:   func() string { return f.imgapiURL(env) },
		manta: &f.Manta,
	}
	cmd := o.command()
	f.addMantaFlags(cmd)
	f.addIMGAPIFlags(cmd)
	return cmd
}

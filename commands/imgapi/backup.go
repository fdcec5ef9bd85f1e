package imgapi

import (
	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
)

func newBackup(env *cli.Env, f *instanceFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up manifests and image files, and look after the backups",
		Long: `Backups of an instance are generations in a store: its directory in Manta, or a
plain directory. Each run adds one if anything changed; a restore gets back the
newest or any earlier one. Beside them stands a plain mirror, laid out as the
stock scripts do. docs/formats.md specifies all of it.`,
	}
	cmd.AddCommand(newBackupRun(env, f), newBackupList(env, f), newBackupVerify(env, f), newBackupPrune(env, f), newBackupCopy(env, f))
	return cmd
}

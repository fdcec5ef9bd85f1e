package lab

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

func keyVerb(o *options, name, short string, do func(*lab.Client, context.Context, lab.KeyRequest) error) *cobra.Command {
	var req lab.KeyRequest
	var file string
	cmd := &cobra.Command{
		Use:     name + " (--instance NAME | --file FILE)",
		Short:   short,
		Long:    cli.Long(short+": an instance's own, or the public key in a file.", cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab key " + name + " --instance images0\n  tritonops lab key " + name + " --file ~/.ssh/id_ed25519.pub",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			if file != "" {
				b, err := os.ReadFile(file)
				if err != nil {
					return fail.As(fail.Usage, err)
				}
				req.Key = string(b)
			}
			if err := do(c, cmd.Context(), req); err != nil {
				return err
			}
			return o.env.PrintText(map[string]string{"instance": req.Instance, "file": file}, func(u *ui.UI) error {
				return u.Printf("done: %s\n", strings.ToLower(short[:1])+short[1:])
			})
		},
	}
	cmd.Flags().StringVar(&req.Instance, "instance", "", "the key of this instance")
	cmd.Flags().StringVar(&file, "file", "", "the public key in this file")
	cmd.MarkFlagsMutuallyExclusive("instance", "file")
	cmd.MarkFlagsOneRequired("instance", "file")
	o.completeFlag(cmd, "instance")
	return cmd
}

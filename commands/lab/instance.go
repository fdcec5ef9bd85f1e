package lab

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newInstance(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "Crash, stop, start or restart an instance's services",
		Long: cli.Long(`instance acts on the services of one instance, IMGAPI unless another is named.
Stopped services stay stopped when the lab is started again.`, cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
	}
	cmd.AddCommand(
		serviceVerb(o, "crash", "crash", "Let the process die; it is restarted after about a second"),
		serviceVerb(o, "stop", "disable", "Stop the process and leave it stopped"),
		serviceVerb(o, "start", "enable", "Start the process"),
		serviceVerb(o, "restart", "restart", "Kill the process and start it"),
		newCron(o),
	)
	return cmd
}

func serviceVerb(o *options, name, verb, short string) *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use:     name + " NAME",
		Short:   short,
		Long:    cli.Long(short+".", cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab instance " + name + " images0",
		Args:    cli.Args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			s, err := c.Service(cmd.Context(), args[0], service, verb, false)
			if err != nil {
				return err
			}
			return o.env.PrintText(s, func(u *ui.UI) error { return u.Printf("%s %s: %s\n", args[0], s.Name, s.State) })
		},
		ValidArgsFunction: o.instances,
	}
	cmd.Flags().StringVar(&service, "service", "imgapi", "the service: imgapi or haproxy")
	return cmd
}

func newCron(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "cron NAME",
		Short: "Run the hourly log jobs now",
		Long: cli.Long(`cron rotates the instance's logs and uploads them to Manta, as the stock hourly
jobs do. The stock backup job is never run.`, cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab instance cron images0",
		Args:    cli.Args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			if err := c.Cron(cmd.Context(), args[0]); err != nil {
				return err
			}
			return o.env.PrintText(map[string]string{"instance": args[0]}, func(u *ui.UI) error {
				return u.Printf("%s: logs rotated and uploaded\n", args[0])
			})
		},
		ValidArgsFunction: o.instances,
	}
}

func newKey(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Put keys on the Manta account, or take them off",
		Long:  cli.Long(`key changes which public keys the lab's Manta account has.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
	}
	cmd.AddCommand(keyVerb(o, "add", "Put a key on the account", (*lab.Client).AddKey), keyVerb(o, "remove", "Take a key off the account", (*lab.Client).RemoveKey))
	return cmd
}

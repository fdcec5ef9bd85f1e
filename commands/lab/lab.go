// Package lab is the noun `tritonops lab`: a rehearsal region on loopback.
package lab

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

// dirVar is the environment variable that names the lab's directory; `lab env`
// sets it.
const dirVar = "TRITONOPS_LAB"

// options are what every verb shares.
type options struct {
	env *cli.Env

	dir string
}

// New builds the noun.
func New(env *cli.Env) *cobra.Command {
	o := &options{env: env}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Rehearse on loopback: a Manta and standalone image servers",
		Long: cli.Long(`lab runs a Manta and standalone IMGAPI instances in one process on loopback,
with the commands of a real zone as shims, so that a runbook can be rehearsed
before it counts. Nothing in it is real and nothing real is touched.

The lab lives in one directory (--dir, or $TRITONOPS_LAB); what is in it
survives restarts and crashes.`, cli.Anywhere),
		Example: `  tritonops lab up --dir /var/tmp/lab --instances 2 --detach
  tritonops lab seed --dir /var/tmp/lab --images 200
  eval "$(tritonops lab env --dir /var/tmp/lab --instance images0)"
  tritonops lab down --dir /var/tmp/lab`,
	}
	cmd.PersistentFlags().StringVar(&o.dir, "dir", "", "`DIR` of the lab (default: $"+dirVar+")")
	cmd.AddCommand(newUp(o), newDown(o), newEnv(o), newStatus(o), newSeed(o), newFault(o), newInstance(o), newKey(o), newShim(o))
	return cmd
}

// labDir is the directory of the lab.
func (o *options) labDir() (string, error) {
	dir := o.dir
	if dir == "" {
		dir = o.env.Getenv(dirVar)
	}
	if dir == "" {
		return "", fail.New(fail.Usage, "no lab named: give --dir DIR or set $%s", dirVar)
	}
	return filepath.Abs(dir)
}

func (o *options) connect() (*lab.Client, error) {
	dir, err := o.labDir()
	if err != nil {
		return nil, err
	}
	return lab.Connect(dir)
}

// instances completes the names of the lab's instances.
func (o *options) instances(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	dir, err := o.labDir()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := lab.Reflect(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, in := range s.Instances {
		names = append(names, in.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag completes a flag that names an instance.
func (o *options) completeFlag(cmd *cobra.Command, flag string) {
	// the only error is a flag that does not exist
	_ = cmd.RegisterFlagCompletionFunc(flag, o.instances)
}

// one is the instance a verb means when none was named: the only one.
func (o *options) one(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	dir, err := o.labDir()
	if err != nil {
		return "", err
	}
	s, err := lab.Reflect(dir)
	if err != nil {
		return "", err
	}
	if len(s.Instances) != 1 {
		return "", fail.New(fail.Usage, "the lab has %d instances: say which with --instance NAME", len(s.Instances))
	}
	return s.Instances[0].Name, nil
}

func newDown(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the lab and keep its directory",
		Long: cli.Long(`down asks the lab's process to end, through its control socket, and returns when
it has given the directory up. A process that does not answer is never killed. A
lab that is down already is no error. Remove the directory yourself when you are
done with it.`, cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Midway, fail.Held),
		Example: "  tritonops lab down --dir /var/tmp/lab",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := o.labDir()
			if err != nil {
				return err
			}
			wasUp, err := lab.Down(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return o.env.PrintText(map[string]any{"dir": dir, "was_up": wasUp}, func(u *ui.UI) error {
				if !wasUp {
					return u.Printf("lab %s was down already\n", dir)
				}
				return u.Printf("lab %s is down\n", dir)
			})
		},
	}
}

func newEnv(o *options) *cobra.Command {
	var instance string
	var operator bool
	cmd := &cobra.Command{
		Use:   "env [--instance NAME | --operator]",
		Short: "Print what points a shell at the lab",
		Long: cli.Long(`env prints shell commands that point every command of this shell, ours and other
people's, at the lab: as if they ran in an instance's zone, or as the lab's
operator. The lab need not be up. With one instance, that one is meant.`, cli.Anywhere, fail.Usage, fail.Refused),
		Example: `  eval "$(tritonops lab env --dir /var/tmp/lab --instance images0)"
  eval "$(tritonops lab env --dir /var/tmp/lab --operator)"`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := o.labDir()
			if err != nil {
				return err
			}
			s, err := lab.Reflect(dir)
			if err != nil {
				return err
			}
			if !operator {
				if instance, err = o.one(instance); err != nil {
					return err
				}
			}
			vars, err := s.Env(instance)
			if err != nil {
				return err
			}
			return o.env.PrintText(vars, func(u *ui.UI) error { return u.Printf("%s", lab.RenderSh(vars)) })
		},
	}
	cmd.Flags().StringVar(&instance, "instance", "", "the instance in whose zone commands shall run")
	cmd.Flags().BoolVar(&operator, "operator", false, "the operator's own environment: Manta only")
	cmd.MarkFlagsMutuallyExclusive("instance", "operator")
	o.completeFlag(cmd, "instance")
	return cmd
}

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the lab runs",
		Long: cli.Long(`status asks the running lab for its services, addresses and faults. A lab that is
down is an error with exit status 8.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab status --dir /var/tmp/lab -j",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			st, err := c.Status(ctx)
			if err != nil {
				return err
			}
			return o.env.Print(st, func(t *ui.Table) { statusTable(t, st) })
		},
	}
}

package lab

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newFault(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Make the lab fail",
		Long: cli.Long(`fault puts faults in force, lists and removes them. They survive a restart of the
lab, until they are used up or removed.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
	}
	cmd.AddCommand(newFaultAdd(o), newFaultList(o), newFaultClear(o))
	return cmd
}

func newFaultAdd(o *options) *cobra.Command {
	var f fault.Fault
	var delay, during time.Duration
	cmd := &cobra.Command{
		Use:   "add KIND",
		Short: "Put a fault in force",
		Long: cli.Long(`add makes requests fail that match service, instance, method and path, after --skip
of them, --count times or until it is removed. 'lab fault list --kinds' tells the
kinds.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
		Example: `  tritonops lab fault add status --service manta --status 503 --count 3
  tritonops lab fault add truncate --service manta --path '/bob/stor/**/file0'
  tritonops lab fault add lost-answer --service manta --method PUT --skip 2 --count 1
  tritonops lab fault add disk-full --service imgapi --for 1m`,
		Args: cli.Args("KIND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			f.Kind, f.Delay, f.For = fault.Kind(args[0]), fault.Duration(delay), fault.Duration(during)
			added, err := c.AddFault(cmd.Context(), f)
			if err != nil {
				return err
			}
			return o.env.PrintText(added, func(u *ui.UI) error { return u.Printf("%s\n", added.ID) })
		},
		ValidArgsFunction: o.kinds,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.ID, "id", "", "name of the fault (default: a free one)")
	fl.StringVar(&f.Service, "service", "", "manta, imgapi or haproxy (default: all)")
	fl.StringVar(&f.Instance, "instance", "", "one instance only")
	fl.StringVar(&f.Method, "method", "", "GET, or PUT,DELETE (default: what suits the kind)")
	fl.StringVar(&f.Path, "path", "", "pattern of the path: * within a segment, ** across")
	fl.IntVar(&f.Skip, "skip", 0, "matching requests to let pass first")
	fl.IntVar(&f.Count, "count", 0, "requests to meet (default: until removed)")
	fl.Float64Var(&f.Probability, "probability", 0, "of meeting a matching request, 0 to 1 (default: always)")
	fl.Uint64Var(&f.Seed, "seed", 0, "dice of this fault")
	fl.IntVar(&f.Status, "status", 0, "status code of kind status")
	fl.StringVar(&f.Code, "code", "", "error code of kind status")
	fl.IntVar(&f.RetryAfter, "retry-after", 0, "seconds in Retry-After")
	cli.BytesVar(fl, &f.Bytes, "bytes", 0, "where a body is cut or spoilt (default: half)")
	fl.StringVar(&f.Side, "side", "", "of kind reset: request or response")
	cli.DurationVar(fl, &delay, "delay", 0, "of latency, stall, hang and slow-rewrite")
	cli.DurationVar(fl, &during, "for", 0, "how long (default: until removed)")
	o.completeFlag(cmd, "instance")
	return cmd
}

// kinds completes kinds of fault.
func (o *options) kinds(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c, err := o.connect()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := c.FaultKinds(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, k := range list {
		names = append(names, cobra.CompletionWithDesc(string(k.Kind), k.Help))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newFaultList(o *options) *cobra.Command {
	var kinds bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the faults in force, or the kinds there are",
		Long:    cli.Long(`list shows the faults with how many requests they saw and met.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab fault list --kinds",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			if kinds {
				list, err := c.FaultKinds(cmd.Context())
				if err != nil {
					return err
				}
				return o.env.Print(list, func(t *ui.Table) {
					t.Header("KIND", "WHAT IT DOES")
					for _, k := range list {
						t.Row(k.Kind, k.Help)
					}
				})
			}
			list, err := c.Faults(cmd.Context())
			if err != nil {
				return err
			}
			return o.env.Print(list, func(t *ui.Table) { faultTable(t, list) })
		},
	}
	cmd.Flags().BoolVar(&kinds, "kinds", false, "list the kinds of fault instead")
	return cmd
}

func newFaultClear(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "clear [ID]",
		Short:   "Remove one fault, or all",
		Long:    cli.Long(`clear takes the fault with that ID out of force, or every fault.`, cli.Anywhere, fail.Usage, fail.Refused, fail.Unreachable),
		Example: "  tritonops lab fault clear f1",
		Args:    cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			n, err := c.ClearFaults(cmd.Context(), id)
			if err != nil {
				return err
			}
			return o.env.PrintText(map[string]int{"removed": n}, func(u *ui.UI) error { return u.Printf("%d removed\n", n) })
		},
	}
}

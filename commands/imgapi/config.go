package imgapi

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/ui"
)

// configOptions are the dependencies and words of `imgapi config`.
type configOptions struct {
	env   *cli.Env
	flags *instanceFlags

	Key string // dotted name, or "" for all
}

func newConfig(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &configOptions{env: env, flags: f}
	return &cobra.Command{
		Use:   "config [KEY]",
		Short: "Show the merged and computed configuration",
		Long: cli.Long(`Shows the configuration as the stock server sees it: its defaults, replaced key
by key by imgapi.config.json, with manta.baseDir and manta.rootDir computed.
KEY is a dotted name such as manta.url or storageTypes.0.

A string is printed bare, anything else as JSON; with -j everything is JSON.
Secrets are shown as (redacted); there is no way to have them printed. A
configuration that the server would not accept is refused, with every wrong
key named. Nothing is changed.`, cli.InInstance, fail.Failed, fail.Usage, fail.Refused),
		Example: `  tritonops imgapi config
  tritonops imgapi config manta.rootDir
  tritonops imgapi config -j channels`,
		Args:              cli.AtMost(1),
		ValidArgsFunction: o.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Key = strings.Join(args, "")
			return runConfig(o)
		},
	}
}

func runConfig(o *configOptions) error {
	i, err := o.flags.load(o.env)
	if err != nil {
		return err
	}
	v := instance.Redact(i.Config.Raw)
	if o.Key != "" {
		if v, err = instance.Lookup(v, o.Key); err != nil {
			return err
		}
	}
	return o.env.PrintText(v, func(u *ui.UI) error {
		if s, ok := v.(string); ok {
			return u.Printf("%s\n", s)
		}
		return ui.JSON(u.Out(), v)
	})
}

// complete offers the dotted names of the configuration.
func (o *configOptions) complete(_ *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	i, err := o.flags.load(o.env)
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, k := range instance.Keys(i.Config.Raw) {
		if strings.HasPrefix(k, word) && ui.Clean(k) == k {
			out = append(out, k)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

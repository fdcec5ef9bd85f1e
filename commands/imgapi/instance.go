package imgapi

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// instanceFlags say which instance the verbs of the group are about, and override
// what its configuration says about the services they talk to. A procedure keeps
// them in its plan, so they have a JSON form; there is no secret among them.
type instanceFlags struct {
	Config    string     `json:"config,omitempty"`     // path of imgapi.config.json, "" for the usual one
	IMGAPIURL string     `json:"imgapi_url,omitempty"` // of the image server
	Manta     mantaFlags `json:"manta"`
}

// addFlags binds what every verb of the group understands.
func (f *instanceFlags) addFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.Config, "config", "", "the server's configuration `FILE` (default: <root>/data/imgapi/etc/imgapi.config.json)")
	// The only error is a flag that does not exist; it was made above.
	_ = cmd.MarkPersistentFlagFilename("config", "json")
}

// addMantaFlags binds the overrides of a verb that talks to Manta.
func (f *instanceFlags) addMantaFlags(cmd *cobra.Command) {
	f.Manta.addFlags(cmd.Flags())
	cmd.MarkFlagsMutuallyExclusive("manta-insecure", "manta-fingerprint")
	// The only error is a flag that does not exist; it was made above.
	_ = cmd.MarkFlagFilename("manta-key")
}

// addIMGAPIFlags binds the override of a verb that talks to the image server.
func (f *instanceFlags) addIMGAPIFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.IMGAPIURL, "imgapi-url", "", "`URL` of the image server (default: $IMGAPI_URL, else this machine)")
}

// load reads the instance, with the overrides applied. A data center's is refused.
func (f *instanceFlags) load(env *cli.Env) (*instance.Instance, error) {
	i, err := instance.Load(env.Globals.Root, f.Config)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fail.Hint(err, "run it as root, who owns the instance's files")
		}
		return nil, err
	}
	return i, f.Manta.apply(i.Config)
}

// imgapiURL is the address of the image server that the operator named, "" where
// none was.
func (f *instanceFlags) imgapiURL(env *cli.Env) string {
	if f.IMGAPIURL != "" {
		return f.IMGAPIURL
	}
	return env.Getenv("IMGAPI_URL")
}

// completeUUIDs offers the UUIDs of the images on disk.
func completeUUIDs(env *cli.Env, f *instanceFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if env.Setup() != nil { // completion of a flag's value comes before every hook
			return nil, cobra.ShellCompDirectiveError
		}
		i, err := f.load(env)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		uuids, err := i.UUIDs(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, u := range uuids {
			if strings.HasPrefix(u, word) && !slices.Contains(args, u) {
				out = append(out, u)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

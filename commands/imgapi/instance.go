package imgapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/manta"
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

// connect returns a client for the Manta of an instance from load, with the
// instance's key and at most parallel connections, and the directory there that is
// the instance's own. Nothing is sent.
func (f *instanceFlags) connect(ctx context.Context, env *cli.Env, i *instance.Instance, parallel int) (*manta.Client, string, error) {
	return f.connectWith(ctx, env, i, parallel, patient())
}

// connectWith is connect for work that tries more or less hard.
func (f *instanceFlags) connectWith(ctx context.Context, env *cli.Env, i *instance.Instance, parallel int, effort mantaEffort) (*manta.Client, string, error) {
	m := i.Config.Manta
	if m == nil {
		err := fail.New(fail.Refused, "%s: manta is not configured", i.ConfigPath)
		return nil, "", fail.Hint(err, "add manta {url, user, key, keyId, baseDir} there, or give --manta-url, --manta-user and --manta-key")
	}
	key, err := mantaKey(ctx, env, i, &f.Manta)
	if err != nil {
		return nil, "", fail.As(fail.Unreachable, fmt.Errorf("key for Manta: %w", err))
	}
	if key.Warning != "" {
		env.UI.Detail("%s", key.Warning)
	}
	account, subUser, _ := strings.Cut(m.User, "/")
	signer, err := manta.NewSigner(key, account, subUser)
	if err != nil {
		return nil, "", fail.As(fail.Unreachable, fmt.Errorf("key for Manta: %w", err))
	}
	c, err := manta.New(manta.Config{
		URL: m.URL, Account: account, SubUser: subUser, Signer: signer,
		Insecure: m.Insecure, Fingerprint: f.Manta.Fingerprint,
		Parallel: parallel, UserAgent: "tritonops/" + env.Version,
		Retry: manta.Retry{Attempts: effort.attempts}, HeaderTimeout: effort.headerTimeout, AuthGrace: effort.authGrace,
		Notify: func(text string) { env.UI.Detail("%s", text) },
	})
	return c, m.RootDir, err
}

// completeUUIDs offers the UUIDs of the images on disk.
func completeUUIDs(env *cli.Env, f *instanceFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
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

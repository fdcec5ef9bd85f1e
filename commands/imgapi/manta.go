package imgapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/status"
	"github.com/tritonops/tritonops/pkg/manta"
	"github.com/tritonops/tritonops/pkg/manta/sshkey"
	"github.com/tritonops/tritonops/pkg/ui"
)

// mantaFlags override what the instance's configuration says about Manta. The
// MANTA_* variables of the environment are not looked at: they are an
// operator's own account as a rule, and a backup must not end up there. It has
// a JSON form so that a run that is resumed finds the same Manta; no field is a
// secret.
type mantaFlags struct {
	URL         string `json:"url,omitempty"`
	User        string `json:"user,omitempty"`
	Key         string `json:"key,omitempty"` // file or fingerprint
	Insecure    bool   `json:"insecure,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the server's certificate
}

func (f *mantaFlags) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.URL, "manta-url", "", "`URL` of Manta (default: manta.url of the instance)")
	fs.StringVar(&f.User, "manta-user", "", "`ACCOUNT` in Manta, or account/subuser (default: manta.user of the instance)")
	fs.StringVar(&f.Key, "manta-key", "", "private `KEY`: a file, or a fingerprint to look for in the ssh agent and ~/.ssh (default: manta.key of the instance)")
	fs.BoolVar(&f.Insecure, "manta-insecure", false, "do not verify Manta's certificate (default: manta.insecure of the instance)")
	fs.StringVar(&f.Fingerprint, "manta-fingerprint", "", "believe only the Manta whose certificate has this `SHA256`")
}

// apply puts the overrides into a configuration, so that everything that goes
// by it, rootDir included, sees one Manta. It may be called again.
func (f *mantaFlags) apply(c *instance.Config) error {
	if *f == (mantaFlags{}) {
		return nil
	}
	if c.Manta == nil {
		if f.URL == "" || f.User == "" || f.Key == "" {
			return fail.New(fail.Usage, "the instance has no manta in its configuration: give all of --manta-url, --manta-user and --manta-key")
		}
		c.Manta = &instance.Manta{BaseDir: "imgapi"}
	}
	m := *c.Manta
	if f.URL != "" {
		m.URL, m.Insecure = f.URL, false // consent was for the other one
	}
	m.Insecure = m.Insecure || f.Insecure
	if f.User != "" {
		m.User = f.User
	}
	if f.Key != "" {
		m.Key, m.KeyID = f.Key, ""
	}
	account, _, _ := strings.Cut(m.User, "/")
	m.RootDir = "/" + account + "/stor/" + m.BaseDir
	c.Manta = &m
	return nil
}

// mantaEffort is how hard a client tries; zero values are the client's defaults.
type mantaEffort struct {
	parallel      int // connections at most
	attempts      int
	headerTimeout time.Duration
	authGrace     time.Duration // how long a refused key may be one just added
	tell          bool          // say the first time that something is tried again
}

// patient suits work that may take its time: an answer late or a key not yet
// known everywhere is waited for.
func patient(parallel int) mantaEffort {
	return mantaEffort{parallel: parallel, authGrace: 30 * time.Second, tell: true}
}

// newMantaClient makes the client of an instance, with the instance's key. It
// contacts nothing but the ssh agent.
func newMantaClient(ctx context.Context, env *cli.Env, inst *instance.Instance, f *mantaFlags, effort mantaEffort) (*manta.Client, *sshkey.Key, error) {
	if err := f.apply(inst.Config); err != nil {
		return nil, nil, err
	}
	m := inst.Config.Manta
	if m == nil {
		err := fail.New(fail.Refused, "%s: manta is not configured", inst.ConfigPath)
		return nil, nil, fail.Hint(err, "add manta {url, user, key, keyId, baseDir} there, or give --manta-url, --manta-user and --manta-key")
	}
	key, err := mantaKey(ctx, env, inst, f)
	if err != nil {
		return nil, nil, fail.As(unlessChosen(err, fail.Unreachable), fmt.Errorf("key for Manta: %w", err))
	}
	if key.Warning != "" {
		env.UI.Detail("%s", key.Warning)
	}
	account, subUser, _ := strings.Cut(m.User, "/")
	signer, err := manta.NewSigner(key, account, subUser)
	if err != nil {
		return nil, nil, fail.As(fail.Unreachable, fmt.Errorf("key for Manta: %w", err))
	}
	c, err := manta.New(manta.Config{
		URL: m.URL, Account: account, SubUser: subUser, Signer: signer, Insecure: m.Insecure, Fingerprint: f.Fingerprint,
		Parallel: effort.parallel, UserAgent: "tritonops/" + env.Version, Notify: notify(env, effort.tell),
		Retry: manta.Retry{Attempts: effort.attempts}, HeaderTimeout: effort.headerTimeout, AuthGrace: effort.authGrace,
	})
	return c, key, err
}

// notify shows why a request is repeated: everything with -v, otherwise, where
// waiting would look like hanging, the first time.
func notify(env *cli.Env, tell bool) func(string) {
	var once sync.Once
	return func(text string) {
		told := false
		if tell && !env.UI.Verbose() {
			once.Do(func() {
				told = true
				env.UI.Say("%s (-v shows what follows)", text)
			})
		}
		if !told {
			env.UI.Detail("%s", text)
		}
	}
}

// mantaKey finds the private key: the file that the flag or the configuration
// names, or a fingerprint, that of the flag, or of the configuration where its
// file is absent because the command runs elsewhere, in the ssh agent and ~/.ssh.
func mantaKey(ctx context.Context, env *cli.Env, inst *instance.Instance, f *mantaFlags) (*sshkey.Key, error) {
	ask := func(prompt string) ([]byte, error) {
		pass, err := env.Prompter().Password(ctx, ui.Question{Text: prompt, Flag: "--manta-key with a key that has no passphrase, or the fingerprint of one in the ssh agent"})
		return []byte(pass), err
	}
	file, id := inst.KeyPath(), inst.Config.Manta.KeyID
	if f.Key != "" {
		file, id = f.Key, f.Key
	}
	key, err := sshkey.Load(file, ask)
	if errors.Is(err, fs.ErrNotExist) && id != "" {
		if _, ferr := sshkey.ParseFingerprint(id); ferr != nil {
			return nil, fmt.Errorf("%w; %q is no fingerprint either", err, id)
		}
		w := sshkey.Where{ID: id, AgentSocket: env.Getenv("SSH_AUTH_SOCK"), Ask: ask}
		if home := env.Getenv("HOME"); home != "" {
			w.Dir = filepath.Join(home, ".ssh")
		}
		key, ferr := sshkey.Find(ctx, w)
		if ferr != nil && f.Key == "" {
			ferr = fmt.Errorf("manta.key %s: no such file; %w", file, ferr)
		}
		return key, ferr
	}
	if err == nil && f.Key == "" && id != "" {
		if mismatch := key.Check(id); mismatch != nil { // the stock scripts go by the file too
			env.UI.Warn("manta.keyId in %s is not that of manta.key: %v", inst.ConfigPath, mismatch)
		}
	}
	return key, err
}

// statusManta is a Manta client as the checks of an instance see it.
type statusManta struct{ c *manta.Client }

// Head implements status.Manta.
func (s statusManta) Head(ctx context.Context, path string) error {
	_, err := s.c.Head(ctx, path)
	return meant(err)
}

// List implements status.Manta.
func (s statusManta) List(ctx context.Context, dir string, limit int) ([]string, error) {
	var names []string
	for info, err := range s.c.List(ctx, dir, manta.ListOptions{Limit: limit, Objects: true}) {
		if err != nil {
			return nil, meant(err)
		}
		names = append(names, info.Name)
	}
	return names, nil
}

// Read implements status.Manta.
func (s statusManta) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	ob, err := s.c.Get(ctx, path, manta.GetOptions{})
	if err != nil {
		return nil, meant(err)
	}
	defer ob.Close()
	if ob.Info.Size > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the %d allowed here", path, ob.Info.Size, limit)
	}
	b, err := io.ReadAll(ob)
	return b, meant(err)
}

// meaning is an error under a sentinel of package status, text unchanged.
type meaning struct {
	error
	is error
}

// Is implements errors.Is for the sentinel.
func (m meaning) Is(target error) bool { return target == m.is }

// Unwrap returns the error itself.
func (m meaning) Unwrap() error { return m.error }

func meant(err error) error {
	switch {
	case errors.Is(err, manta.ErrAuth):
		return meaning{err, status.ErrAuth}
	case errors.Is(err, manta.ErrNotFound):
		return meaning{err, status.ErrNotFound}
	}
	return err
}

package imgapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/backup/store/mantastore"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/manta"
)

// storeOptions name the store that a verb works on.
type storeOptions struct {
	*instanceFlags
	env   *cli.Env
	store string // "" is the instance's Manta directory
	quick bool   // somebody waits for the answer: a refused key is believed at once
}

func (o *storeOptions) addStoreFlag(cmd *cobra.Command, name, usage string) {
	cmd.Flags().StringVar(&o.store, name, "", usage)
	o.addMantaFlags(cmd)
}

// storeConnections bounds the connections a backup or restore keeps open.
const storeConnections = 64

const storeUsage = "work on the store at `URL`, file:///mnt/offsite/images say (default: the instance's Manta directory)"

func fromUsage(verb string) string {
	return verb + strings.Replace(strings.TrimPrefix(storeUsage, "work"), " on ", " from ", 1)
}

// ready loads the instance and opens the store that the verb works on.
func (o *storeOptions) ready(ctx context.Context) (*instance.Instance, store.Store, error) {
	inst, err := o.load(o.env)
	if err != nil {
		return nil, nil, err
	}
	st, err := o.open(ctx, inst)
	return inst, st, err
}

// open returns the store. The instance tells which Manta directory is its own.
func (o *storeOptions) open(ctx context.Context, inst *instance.Instance) (store.Store, error) {
	return o.openURL(ctx, inst, o.store)
}

func (o *storeOptions) openURL(ctx context.Context, inst *instance.Instance, url string) (store.Store, error) {
	switch {
	case strings.HasPrefix(url, "file:"):
		dir, err := filestore.Parse(url)
		if err != nil {
			return nil, fail.As(fail.Usage, err)
		}
		return filestore.New(dir, filestore.Options{})
	case url != "":
		return nil, fail.New(fail.Usage, "%s: not a store: want file:///path, or no flag for the instance's Manta directory", url)
	}
	effort := patient(storeConnections)
	if o.quick {
		effort.authGrace = 0
	}
	client, _, err := newMantaClient(ctx, o.env, inst, &o.Manta, effort)
	if err != nil {
		return nil, err
	}
	st, err := mantastore.New(client, inst.Config.Manta.RootDir)
	if err != nil {
		return nil, fmt.Errorf("%s: manta.baseDir: %w", inst.ConfigPath, err)
	}
	return st, nil
}

// explain adds to an error of a Manta store what an operator most often needs:
// the public key that the account does not have.
func explain(inst *instance.Instance, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnavailable) || errors.Is(err, manta.ErrAuth) || errors.Is(err, manta.ErrUnavailable):
		err = fail.As(unlessChosen(err, fail.Unreachable), err)
	}
	var me *manta.Error
	if !errors.As(err, &me) || me.Status != http.StatusForbidden && me.Status != http.StatusUnauthorized || inst.Config.Manta == nil {
		if fail.CodeOf(err) == fail.Unreachable {
			err = fail.Hint(err, "tritonops imgapi status   # says what does not answer, and why that may be")
		}
		return err
	}
	user := inst.Config.Manta.User
	pub, kerr := inst.PublicKey()
	if kerr != nil {
		return fail.Hint(err, "add this instance's public key to the Manta account %s (%v)", user, kerr)
	}
	return fail.Hint(err, "the key of this instance is likely not on the Manta account %s; to add it:\necho '%s' | triton -a %s key add -", user, strings.TrimSpace(pub), user)
}

// unlessChosen keeps the exit code that somebody below has chosen on purpose.
func unlessChosen(err error, code fail.Code) fail.Code {
	if c := fail.CodeOf(err); c != fail.Failed {
		return c
	}
	return code
}

func backupDir(inst *instance.Instance) string { return filepath.Join(inst.StateDir(), "backup") }

// writer says who this instance is, as its zone knows itself.
func writer(ctx context.Context, env *cli.Env) backup.Writer {
	w := backup.Writer{Tool: "tritonops " + env.Version}
	var wg sync.WaitGroup
	wg.Go(func() { w.Instance = firstLine(ctx, "zonename") })
	wg.Go(func() { w.Alias = firstLine(ctx, "mdata-get", "sdc:alias") })
	wg.Go(func() { w.Server = firstLine(ctx, "mdata-get", "sdc:server_uuid") })
	wg.Wait()
	if w.Instance == "" || w.Instance == "global" {
		w.Instance, _ = os.Hostname() // no zone: the host is the next best name
	}
	return w
}

// firstLine asks a command that only a zone has; elsewhere it is silent.
func firstLine(ctx context.Context, argv ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
)

func (r *run) mantaConfigured(context.Context) health.Result {
	m := r.Instance.Config.Manta
	if m == nil {
		return health.Warnf("not configured").Saw("no \"manta\" in %s", r.Instance.ConfigPath).
			Because("the instance is neither guarded against a second one nor backed up").
			Do("add manta {url, user, key, keyId, baseDir} to " + r.Instance.ConfigPath + " and restart imgapi")
	}
	res := health.Okf("%s at %s", m.RootDir, m.URL).Saw("user %s, key %s", m.User, r.Instance.KeyPath())
	if m.Insecure {
		res = res.Saw("insecure is true: the server's certificate is not verified")
	}
	return res
}

// mantaReachable asks for the Manta area with the key that the instance's own
// scripts use.
func (r *run) mantaReachable(ctx context.Context) health.Result {
	m := r.Instance.Config.Manta
	const impact = "no backup, no restore, no log upload, and no image file that is stored in Manta"
	switch {
	case m == nil:
		return health.NAf("Manta is not configured")
	case r.MantaErr != nil:
		return health.Faultf("no client for %s can be made", m.URL).Saw("%v", r.MantaErr).Because(impact).
			Do("see that manta.key in " + r.Instance.ConfigPath + " names the private key of this instance")
	}
	err := r.Manta.Head(ctx, m.RootDir)
	switch {
	case err == nil:
		return health.Okf("%s at %s", m.RootDir, m.URL)
	case errors.Is(err, ErrAuth):
		return r.keyRefused(err)
	case !errors.Is(err, ErrNotFound):
		return health.Faultf("%s does not answer as it should", m.URL).Saw("%v", err).Because(impact).
			Do("see that the address is right and reachable from here: curl -i " + m.URL + "/" + m.User + "/stor")
	}
	if _, restored, _ := r.Instance.RestoredAt(); restored {
		return health.Faultf("%s does not exist any more", m.RootDir).Saw("%v", err).Saw("the key is accepted").
			Because("a restore has run here, so there was a backup: it is gone, or the configuration names another place").
			Do("compare manta.user and manta.baseDir in "+r.Instance.ConfigPath+" with what was there", "tritonops imgapi backup run, which makes it anew")
	}
	return health.Okf("the key is accepted; %s does not exist yet", m.RootDir)
}

// keyRefused explains a 401 or 403. It shows the public key: it is what has to
// be added to the account.
func (r *run) keyRefused(err error) health.Result {
	m := r.Instance.Config.Manta
	f := health.Faultf("%s does not accept this instance's key for %s", m.URL, m.User).Saw("%v", err)
	key, kerr := r.MantaKey, error(nil)
	if key == "" {
		key, kerr = r.Instance.PublicKey()
	}
	add := fmt.Sprintf("triton -a %s key add -n %s %s.pub", m.User, keyName(r.Instance.KeyPath()), r.Instance.KeyPath())
	if kerr != nil {
		f = f.Saw("%v", kerr)
	} else {
		f = f.Saw("public key: %s", key)
		if _, err := os.Stat(r.Instance.KeyPath() + ".pub"); err != nil {
			add = fmt.Sprintf("echo '%s' | triton -a %s key add -n %s -", key, m.User, keyName(r.Instance.KeyPath()))
		}
	}
	return f.Because("no backup, no restore, no log upload, and no image file that is stored in Manta").
		Do(add, "a key just added is known to all of Manta only after some minutes; look also at the clock of this zone: more than 5 minutes off is refused too")
}

// keyName is what the stock setup calls a key: its file without extension.
func keyName(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// The fields of the lock and of a run state that are shown; there may be more.
type lockFile struct {
	Instance     string    `json:"instance"`
	Alias        string    `json:"alias"`
	Epoch        uint64    `json:"epoch"`
	RenewedAt    time.Time `json:"renewed_at"`
	LeaseSeconds int       `json:"lease_seconds"`
	Released     bool      `json:"released"`
}

type runState struct {
	Instance  string    `json:"instance"`
	Alias     string    `json:"alias"`
	State     string    `json:"state"`
	Reason    string    `json:"reason"`
	UpdatedAt time.Time `json:"updated_at"`
}

const (
	maxInstances = 100
	maxRunFile   = 64 << 10
	maxSmallFile = 1 << 20
)

// lockAndInstances shows who holds the Manta area and who else stands by.
func (r *run) lockAndInstances(ctx context.Context) health.Result {
	m := r.Instance.Config.Manta
	if m == nil {
		return health.NAf("Manta is not configured: there is no lock, and nothing keeps a second instance out")
	}
	if r.MantaErr != nil {
		return health.Result{Status: health.Unknown, Summary: r.MantaErr.Error()}
	}
	dir := m.RootDir + "/run"
	names, err := r.Manta.List(ctx, dir, maxInstances)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return health.Result{Status: health.Unknown, Summary: fmt.Sprintf("%s: %v", dir, err)}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return n != "primary.lock" && !strings.HasSuffix(n, ".runstate") || strings.Contains(n, "/")
	})
	slices.Sort(names)
	if len(names) == 0 {
		return health.NAf("no lock and no run state in %s: no agent has run on this Manta area, so nothing keeps a second instance out", dir)
	}
	return r.readRunFiles(ctx, dir, names)
}

func (r *run) readRunFiles(ctx context.Context, dir string, names []string) health.Result {
	var seen, bad, active []string
	holder, states := "no lock", 0
	for _, n := range names {
		b, err := r.Manta.Read(ctx, dir+"/"+n, maxRunFile)
		if errors.Is(err, ErrNotFound) {
			continue // removed since the listing
		}
		line, state := "", ""
		if err == nil && n == "primary.lock" {
			holder, line, err = describeLock(b)
		} else if err == nil {
			states++
			line, state, err = describeState(strings.TrimSuffix(n, ".runstate"), b)
		}
		if err != nil {
			bad = append(bad, n)
			line = err.Error()
		}
		if state == "active" {
			active = append(active, n)
		}
		seen = append(seen, n+": "+line)
	}
	res := health.Okf("%s, %d instances", holder, states)
	switch {
	case len(active) > 1:
		res = health.Faultf("%d instances say that they are active", len(active)).
			Because("both take writes, and each overwrites what the other has backed up").
			Do("on all but one of them: tritonops imgapi state set standby")
	case len(bad) > 0:
		res = health.Warnf("cannot be read: %s", strings.Join(bad, ", ")).
			Because("who holds this Manta area is not known for sure").Do("look at " + dir + " in Manta")
	}
	for _, line := range seen {
		res = res.Saw("%s", line)
	}
	return res
}

func describeLock(b []byte) (holder, line string, err error) {
	var l lockFile
	if err := json.Unmarshal(b, &l); err != nil {
		return "a lock that cannot be read", "", err
	}
	who := nameOf(l.Alias, l.Instance)
	if who == "" {
		return "a lock that names nobody", "", errors.New("it names no instance")
	}
	holder = "held by " + who
	if l.Released {
		holder = "released by " + who
	}
	return holder, fmt.Sprintf("%s, epoch %d, renewed %s, lease %d s", holder, l.Epoch, stamp(l.RenewedAt), l.LeaseSeconds), nil
}

func describeState(zone string, b []byte) (line, state string, err error) {
	var s runState
	if err := json.Unmarshal(b, &s); err != nil {
		return "", "", err
	}
	if s.Instance == "" {
		s.Instance = zone
	}
	line = fmt.Sprintf("%s is %s, since or as of %s", nameOf(s.Alias, s.Instance), s.State, stamp(s.UpdatedAt))
	if s.Reason != "" {
		line += " (" + s.Reason + ")"
	}
	return line, s.State, nil
}

func nameOf(alias, instance string) string {
	if alias == "" {
		return instance
	}
	return strings.TrimSpace(alias + " " + instance)
}

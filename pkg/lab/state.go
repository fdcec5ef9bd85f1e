package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// State is what lab.json holds: how to reach a lab and what it is made of.
type State struct {
	Version   int             `json:"version"`
	Dir       string          `json:"dir"`
	Created   time.Time       `json:"created"`
	Binary    string          `json:"binary,omitempty"`
	Control   string          `json:"control"` // unix socket
	Account   string          `json:"account"`
	Manta     MantaState      `json:"manta"`
	Operator  OperatorState   `json:"operator"`
	Instances []InstanceState `json:"instances"`
	KeyDelay  time.Duration   `json:"key_delay_ns,omitempty"` // how long Manta takes to know a new key everywhere
	Seed      uint64          `json:"fault_seed,omitempty"`   // of the faults' dice
}

// MantaState is the Manta of a lab.
type MantaState struct {
	URL  string `json:"url"`
	Port int    `json:"port"`
}

// OperatorState is the person at the lab's keyboard: one RSA key for the Manta
// account and for signed writes to every instance.
type OperatorState struct {
	User      string `json:"user"`       // name of the key file on the instances, and the keyId of a signature
	Key       string `json:"key"`        // private key file, PEM
	KeyID     string `json:"key_id"`     // MD5 fingerprint, as MANTA_KEY_ID
	KeySHA256 string `json:"key_sha256"` // SHA256 fingerprint
}

// InstanceState is one standalone IMGAPI instance.
type InstanceState struct {
	Name         string   `json:"name"` // the alias, images0
	Zonename     string   `json:"zonename"`
	Hostname     string   `json:"hostname"`
	Root         string   `json:"root"`
	HTTPPort     int      `json:"http_port"`  // of the IMGAPI process
	HTTPSPort    int      `json:"https_port"` // of the TLS front
	ProxyPort    int      `json:"proxy_port"` // of the front, for balancers that speak the PROXY protocol; no TLS
	URL          string   `json:"url"`
	Key          string   `json:"key"`        // private key, path inside the zone
	KeyID        string   `json:"key_id"`     // MD5 fingerprint
	KeySHA256    string   `json:"key_sha256"` // as in the config
	Manta        bool     `json:"manta"`      // the config has a manta section
	KeyOnAccount bool     `json:"key_on_account"`
	Disabled     []string `json:"disabled,omitempty"` // services disabled by an administrator
}

// LocalURL is where the IMGAPI process itself answers, behind the TLS front.
func (in InstanceState) LocalURL() string { return "http://" + loopback(in.HTTPPort) }

const stateVersion = 1

// loadState reads lab.json; a directory without one gives fs.ErrNotExist.
func loadState(dir string) (*State, error) {
	path := paths{dir}.state()
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: damaged: %w", path, err)
	}
	if s.Version > stateVersion {
		return nil, fail.New(fail.Refused, "%s: written by a newer tritonops (version %d, this one knows %d)", path, s.Version, stateVersion)
	}
	if s.Dir != dir {
		return nil, fail.New(fail.Refused, "%s: belongs to a lab in %s; a lab cannot be moved", path, s.Dir)
	}
	return &s, nil
}

func (s *State) save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(paths{s.Dir}.state(), append(b, '\n'), 0o600)
}

// Instance finds an instance by name.
func (s *State) Instance(name string) *InstanceState {
	for i := range s.Instances {
		if s.Instances[i].Name == name {
			return &s.Instances[i]
		}
	}
	return nil
}

// maxSocketPath is what every platform's sockaddr_un holds.
const maxSocketPath = 100

// controlPath is where the control socket is: in the directory, or under the
// system's temporary directory when its path is too long for a unix socket.
func controlPath(dir string) string {
	p := paths{dir}.control()
	if len(p) <= maxSocketPath {
		return p
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), "tritonops-lab-"+hex.EncodeToString(sum[:6]), "c.sock")
}

func newState(cfg Config) *State {
	s := &State{Version: stateVersion, Dir: cfg.Dir, Created: cfg.Now().UTC().Truncate(time.Second), Account: cfg.Account,
		Control: controlPath(cfg.Dir), Instances: []InstanceState{}}
	s.remember(cfg)
	return s
}

// remember keeps what was said at this start for the next ones.
func (s *State) remember(cfg Config) {
	if cfg.KeyDelay != nil {
		s.KeyDelay = *cfg.KeyDelay
	}
	if cfg.Seed != nil {
		s.Seed = *cfg.Seed
	}
}

// openState reads the directory's state or begins a new one. A directory that
// holds something else is refused.
func openState(cfg Config) (*State, error) {
	s, err := loadState(cfg.Dir)
	if err == nil {
		s.remember(cfg)
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "lab.log" {
			return nil, fail.New(fail.Refused, "%s: not empty and not a lab (found %s); give a new directory", cfg.Dir, e.Name())
		}
	}
	return newState(cfg), nil
}

package lab

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tritonops/tritonops/pkg/durable"
)

// zone is one instance's root on disk.
type zone struct{ *InstanceState }

func (z zone) path(elem ...string) string {
	return filepath.Join(append([]string{z.Root}, elem...)...)
}

func (z zone) data(elem ...string) string {
	return z.path(append([]string{"data", "imgapi"}, elem...)...)
}

// standardChannels are the channels of the public update server.
func standardChannels() []map[string]any {
	return []map[string]any{
		{"name": "experimental", "description": "builds of feature branches; the newest one means nothing"},
		{"name": "dev", "description": "builds of the main branch", "default": true},
		{"name": "staging", "description": "builds of a release branch before its release"},
		{"name": "release", "description": "releases"},
		{"name": "support", "description": "releases under support"},
	}
}

// zoneConfig is the configuration file, members in the order of the stock
// template; port and address are ours, since several instances share a machine.
type zoneConfig struct {
	Mode         string           `json:"mode"`
	ServerName   string           `json:"serverName,omitempty"`
	Port         int              `json:"port"`
	Address      string           `json:"address"`
	Manta        *zoneManta       `json:"manta,omitempty"`
	Channels     []map[string]any `json:"channels,omitempty"`
	AuthType     string           `json:"authType"`
	DatabaseType string           `json:"databaseType"`
	StorageTypes []string         `json:"storageTypes"`
}

type zoneManta struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Key      string `json:"key"`
	KeyID    string `json:"keyId"`
	Insecure bool   `json:"insecure"`
	BaseDir  string `json:"baseDir"`
}

func newUUID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// makeZone lays an instance out as the stock set-up script leaves it. It may be
// called again after a crash: what is there stays.
func makeZone(cfg Config, s *State, in *InstanceState, operator keyPair) error {
	z := zone{in}
	for _, d := range []string{z.data("etc", "authkeys", "local"), z.path("var", "log", "triton", "upload"), z.path("var", "svc", "log"), z.path("root", ".ssh")} {
		if err := durable.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := z.makeKeys(cfg, operator); err != nil {
		return err
	}
	if err := makeCert(z.data("etc", "cert.pem"), "*", cfg.Now()); err != nil {
		return err
	}
	if err := z.writeConfig(cfg, s); err != nil {
		return err
	}
	motd := fmt.Sprintf("** This is a standalone IMGAPI instance of a LAB, not a real one.\n**            uuid: %s (%s)\n", in.Zonename, in.Name)
	for path, text := range map[string]string{
		z.path("var", "log", "triton", "imgapi-backup.log"): "", z.path("etc", "motd"): motd, z.path("etc", "nodename"): in.Hostname + "\n",
		z.path("var", "svc", "setup_complete"): "", z.crontab(): stockCrontab(),
	} {
		if err := writeOnce(path, text); err != nil {
			return err
		}
	}
	return nil
}

func writeOnce(path, text string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(text), 0o644)
}

// makeKeys makes the instance's ECDSA key, links it into root's .ssh, and lets
// the operator sign writes.
func (z zone) makeKeys(cfg Config, operator keyPair) error {
	if z.Key == "" {
		z.Key = fmt.Sprintf("/data/imgapi/etc/%s-%s.id_ecdsa", z.Hostname, cfg.Now().UTC().Format("20060102T150405"))
	}
	real := z.path(z.Key)
	comment := strings.TrimSuffix(filepath.Base(z.Key), ".id_ecdsa")
	kp, err := makeKey(real, comment, true, newECDSA)
	if err != nil {
		return err
	}
	z.KeyID, z.KeySHA256 = kp.md5, kp.sha256
	for _, suffix := range []string{"", ".pub"} {
		link := z.path("root", ".ssh", filepath.Base(z.Key)+suffix)
		if err := os.Symlink(real+suffix, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return writeOnce(z.data("etc", "authkeys", "local", operatorUser+".keys"), operator.authorized+"\n")
}

func (z zone) publicKey() (string, error) {
	b, err := os.ReadFile(z.path(z.Key) + ".pub")
	return strings.TrimSpace(string(b)), err
}

func (z zone) writeConfig(cfg Config, s *State) error {
	path := z.data("etc", "imgapi.config.json")
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	c := zoneConfig{Mode: cfg.Mode, ServerName: "lab " + z.Name, Port: z.HTTPPort, Address: "127.0.0.1",
		AuthType: "signature", DatabaseType: "local", StorageTypes: []string{"local"}}
	if !cfg.NoManta {
		z.Manta = true
		if cfg.Storage == "manta" {
			c.StorageTypes = []string{"manta", "local"}
		}
		c.Manta = &zoneManta{URL: s.Manta.URL, User: s.Account, Key: z.Key, KeyID: z.KeySHA256, Insecure: true, BaseDir: z.Name}
	}
	if cfg.Channels {
		c.Channels = standardChannels()
	}
	b, err := json.MarshalIndent(c, "", "    ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'), 0o644)
}

// readConfig reads what the instance's configuration says now: an operator may
// have changed it.
func (z zone) readConfig() (zoneConfig, error) {
	var c zoneConfig
	b, err := os.ReadFile(z.data("etc", "imgapi.config.json"))
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(b, &c)
}

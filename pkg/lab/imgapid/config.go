package imgapid

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// Version is the upstream version this stands in for; GET /ping tells it.
const Version = "4.13.1"

// settings are what the server takes from its configuration file, laid key by
// key over the defaults.
type settings struct {
	Port         int                 `json:"port"`
	Address      string              `json:"address"`
	Mode         string              `json:"mode"`
	ServerName   string              `json:"serverName"`
	AuthType     string              `json:"authType"`
	DatabaseType string              `json:"databaseType"`
	StorageTypes []string            `json:"storageTypes"`
	LogLevel     string              `json:"logLevel"`
	Channels     []channel           `json:"channels"`
	AuthKeys     map[string][]string `json:"authKeys"`
}

type channel struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Default     bool   `json:"default,omitempty"`
}

func defaults() settings {
	return settings{Port: 8080, Address: "127.0.0.1", Mode: "public", AuthType: "signature", DatabaseType: "local",
		StorageTypes: []string{"local"}, LogLevel: "debug"}
}

var channelNameRE = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// readSettings reads the configuration. A missing file means the defaults are
// not enough: the upstream server exits 2.
func readSettings(path string) (settings, error) {
	s := defaults()
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, s.check()
}

func (s *settings) check() error {
	switch {
	case s.Mode != "public" && s.Mode != "private":
		return fmt.Errorf("mode %q: the lab's IMGAPI serves modes public and private only", s.Mode)
	case s.AuthType != "signature" && s.AuthType != "none":
		return fmt.Errorf("unknown authType %q", s.AuthType)
	case s.DatabaseType != "local":
		return fmt.Errorf("databaseType %q: the lab's IMGAPI has only the local database", s.DatabaseType)
	case !slices.Equal(s.StorageTypes, []string{"local"}):
		return fmt.Errorf(`storageTypes %q: the lab's IMGAPI stores image files locally only; set ["local"]`, s.StorageTypes)
	}
	if s.Channels != nil && len(s.Channels) == 0 {
		return errors.New(`empty "channels" array`)
	}
	n := 0
	for _, c := range s.Channels {
		if !channelNameRE.MatchString(c.Name) {
			return fmt.Errorf("invalid channel name: %q", c.Name)
		}
		if c.Default {
			n++
		}
	}
	if n > 1 {
		return errors.New("more than one default channel")
	}
	return nil
}

func (s *settings) rules() rules { return newRules(s.Mode, len(s.Channels) > 0) }

// channel looks one up by name.
func (s *settings) channel(name string) *channel {
	for i := range s.Channels {
		if s.Channels[i].Name == name {
			return &s.Channels[i]
		}
	}
	return nil
}

func (s *settings) defaultChannel() *channel {
	for i := range s.Channels {
		if s.Channels[i].Default {
			return &s.Channels[i]
		}
	}
	return nil
}

// layout is where things are below a data directory.
type layout struct{ base string }

func (l layout) config() string    { return filepath.Join(l.base, "etc", "imgapi.config.json") }
func (l layout) manifests() string { return filepath.Join(l.base, "manifests") }
func (l layout) images() string    { return filepath.Join(l.base, "images") }
func (l layout) archive() string   { return filepath.Join(l.base, "archive") }
func (l layout) keys(kind string) string {
	return filepath.Join(l.base, "etc", "authkeys", kind)
}
func (l layout) manifest(uuid string) string { return filepath.Join(l.manifests(), uuid+".raw") }
func (l layout) file(uuid, name string) string {
	return filepath.Join(l.images(), uuid[:3], uuid, name)
}
func (l layout) archived(uuid string) string {
	return filepath.Join(l.archive(), uuid[:3], uuid+".json")
}

// make makes the directories the server makes at its start.
func (l layout) make() error {
	for _, d := range []string{l.manifests(), l.images(), l.archive(), l.keys("local"), l.keys("manta")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				return errors.New(nodeError(pe))
			}
			return err
		}
	}
	return nil
}

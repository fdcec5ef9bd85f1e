package imgapid

import (
	"cmp"
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
	AdminUUID    string              `json:"adminUuid"`
	Manta        *mantaSettings      `json:"manta"`
}

// mantaSettings is the manta section. The key is a path inside the zone.
type mantaSettings struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Key      string `json:"key"`
	KeyID    string `json:"keyId"`
	Insecure bool   `json:"insecure"`
	BaseDir  string `json:"baseDir"`
}

// root is where everything of this server lies in Manta.
func (m *mantaSettings) root() string { return "/" + m.User + "/stor/" + cmp.Or(m.BaseDir, "imgapi") }

// stores says whether a storage type is configured.
func (s *settings) stores(kind string) bool { return slices.Contains(s.StorageTypes, kind) }

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
	case s.stores("manta") && s.Manta == nil:
		return errors.New("invalid IMGAPI config: config.manta (object) is required")
	case len(s.StorageTypes) == 0:
		return errors.New("invalid IMGAPI config: no storageTypes")
	}
	for _, t := range s.StorageTypes {
		if !slices.Contains(validStorages, t) {
			return fmt.Errorf("invalid IMGAPI config: storage type %q", t)
		}
	}
	// The server wants keyId too, but is content with an empty one.
	if m := s.Manta; m != nil && (m.URL == "" || m.User == "" || m.Key == "") {
		return errors.New("invalid IMGAPI config: config.manta: url, user and key are required")
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

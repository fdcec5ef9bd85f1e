// Package instance reads a standalone IMGAPI instance from its disk: the
// configuration of the stock server, the layout of its data directory, the image
// manifests and the image files.
//
// Everything lies below a root, "/" in an instance zone:
//
//	<root>/data/imgapi/manifests/<uuid>.raw              one manifest per image
//	<root>/data/imgapi/images/<uuid[0:3]>/<uuid>/file0   image file (stor=local); "icon" beside it
//	<root>/data/imgapi/archive/<uuid[0:3]>/<uuid>.json   what the server once showed, never removed
//	<root>/data/imgapi/etc/                              config, instance key, certificate, auth keys
//	<root>/data/imgapi/run/                              markers of backup, restore and log upload
//	<root>/data/tritonops/                               our own state: backup, runs, cache
//
// The server rewrites manifests in place and keeps interrupted uploads for ever,
// so a reader meets torn manifests and leftovers: they are told apart here, never
// taken for data. Symbolic links below the data directory are refused, not
// followed.
//
// The facts about the stock server were read from sdc-imgapi 4.13.1 and observed
// on a running one.
package instance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Instance is one standalone image server seen from its disk. It holds no open
// files; all methods are safe for concurrent use.
type Instance struct {
	Root       string // prefix of every path, "/" in an instance zone
	ConfigPath string // the file Config was read from
	Config     *Config
}

// Load reads the configuration of the instance below root. configPath "" means
// <root>/data/imgapi/etc/imgapi.config.json; another path is used as it is given.
//
// An instance of mode "dc" is refused (fail.Refused): its manifests live in
// Moray and nothing here may touch it.
func Load(root, configPath string) (*Instance, error) {
	if root == "" {
		root = "/"
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	i := &Instance{Root: root, ConfigPath: configPath}
	if configPath == "" {
		i.ConfigPath = filepath.Join(i.EtcDir(), "imgapi.config.json")
	}
	b, err := readConfigFile(i.ConfigPath)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fail.New(fail.Refused, "%s: no such file, so there is no standalone image server here: %w", i.ConfigPath, err)
			err = fail.Hint(err, "name the server's configuration with --config FILE, or the directory its paths start at with --root DIR")
		}
		return nil, err
	}
	if i.Config, err = ParseConfig(b); err != nil {
		return nil, fmt.Errorf("%s: %w", i.ConfigPath, err)
	}
	if i.Config.Mode == ModeDC {
		err := fail.New(fail.Refused, "%s: mode is \"dc\": this is the image server of a data center, not a standalone instance", i.ConfigPath)
		return nil, fail.Hint(err, "its manifests live in Moray, not on this disk; see: sdcadm check-health imgapi")
	}
	return i, nil
}

// readConfigFile reads at most MaxConfig bytes. A symbolic link is followed: the
// operator may keep the file where he likes.
func readConfigFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxConfig {
		return nil, fmt.Errorf("%s: over %d bytes, which no configuration is", path, MaxConfig)
	}
	return b, nil
}

// Local puts an absolute path of the instance below the root. A path that
// already lies below the root stays as it is, so that a server run outside a zone
// can name its files by their real paths.
func (i *Instance) Local(path string) string {
	path = filepath.Clean("/" + path)
	if i.Root == "/" || path == i.Root || strings.HasPrefix(path, i.Root+"/") {
		return path
	}
	return filepath.Join(i.Root, path)
}

// DataDir is the server's data directory.
func (i *Instance) DataDir() string { return filepath.Join(i.Root, "data/imgapi") }

// ManifestsDir holds one <uuid>.raw per image.
func (i *Instance) ManifestsDir() string { return filepath.Join(i.DataDir(), "manifests") }

// ImagesDir holds the image files and icons with stor=local.
func (i *Instance) ImagesDir() string { return filepath.Join(i.DataDir(), "images") }

// ArchiveDir holds the manifests as the server once showed them.
func (i *Instance) ArchiveDir() string { return filepath.Join(i.DataDir(), "archive") }

// EtcDir holds configuration, keys and certificate.
func (i *Instance) EtcDir() string { return filepath.Join(i.DataDir(), "etc") }

// RunDir holds the markers of the stock scripts.
func (i *Instance) RunDir() string { return filepath.Join(i.DataDir(), "run") }

// AuthKeysDir holds the <user>.keys files that are not synced from Manta.
func (i *Instance) AuthKeysDir() string { return filepath.Join(i.EtcDir(), "authkeys", "local") }

// CertPath is the certificate (with its key) that the TLS front end serves.
func (i *Instance) CertPath() string { return filepath.Join(i.EtcDir(), "cert.pem") }

// StateDir is where tritonops keeps its own state; it lies on the delegated
// dataset and survives a reprovision.
func (i *Instance) StateDir() string { return filepath.Join(i.Root, "data/tritonops") }

// CacheDir holds what can be computed again.
func (i *Instance) CacheDir() string { return filepath.Join(i.StateDir(), "cache") }

// LogDir holds the rotated logs that wait for upload.
func (i *Instance) LogDir() string { return filepath.Join(i.Root, "var/log/triton") }

// RestoredMarker is the file whose presence says that a restore has run; the
// stock backup refuses to run without it.
func (i *Instance) RestoredMarker() string { return filepath.Join(i.RunDir(), "restored.marker") }

// BackupStatus is the file with the exit number of the last backup.
func (i *Instance) BackupStatus() string { return filepath.Join(i.RunDir(), "backup.status") }

// LogUploadStatus is the file with the exit number of the last log upload.
func (i *Instance) LogUploadStatus() string { return filepath.Join(i.RunDir(), "logupload.status") }

// ManifestPath is where the manifest of an image lies.
func (i *Instance) ManifestPath(uuid string) string {
	return filepath.Join(i.ManifestsDir(), uuid+manifestExt)
}

// FilePath is where a file of an image ("file0", "icon") lies.
func (i *Instance) FilePath(uuid, name string) string {
	return filepath.Join(i.DataDir(), filepath.FromSlash(RelFile(uuid, name)))
}

// RelFile is the path of an image file relative to the data directory, and to
// manta.rootDir for an image with stor=manta: "images/abc/<uuid>/file0". The uuid
// must be valid.
func RelFile(uuid, name string) string { return "images/" + uuid[:3] + "/" + uuid + "/" + name }

// RelFile is the package function of the same name.
func (i *Instance) RelFile(uuid, name string) string { return RelFile(uuid, name) }

// ValidUUID says whether s is a UUID as the server names files: lower case
// hexadecimal, 8-4-4-4-12.
func ValidUUID(s string) bool {
	_, ok := parseID(s)
	return ok
}

package instance

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// markerTime is the time format of the stock restore script, UTC.
const markerTime = "2006-01-02T15:04:05"

// maxSmall bounds the small files read whole: markers and public keys.
const maxSmall = 64 << 10

// KeyPath is the local path of the private key for Manta: manta.key below the
// root. "" where Manta is not configured.
func (i *Instance) KeyPath() string {
	if i.Config.Manta == nil || i.Config.Manta.Key == "" {
		return ""
	}
	return i.Local(i.Config.Manta.Key)
}

// PublicKey returns the public half of the instance's key as one line
// ("ecdsa-sha2-nistp256 AAAA... name"), from the .pub file beside manta.key.
func (i *Instance) PublicKey() (string, error) {
	key := i.KeyPath()
	if key == "" {
		return "", errors.New("public key: manta.key is not configured")
	}
	b, err := readSmall(key + ".pub")
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	line := strings.TrimSpace(string(b))
	words := strings.Fields(line)
	if len(words) >= 2 && !strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }) {
		if _, err := base64.StdEncoding.DecodeString(words[1]); err == nil {
			return line, nil
		}
	}
	return "", fmt.Errorf("public key: %s.pub: not one line of an OpenSSH public key", key)
}

// Owner returns the numeric user and group that the stock server writes as: those
// of the manifests directory, or before the first start of the config file.
func (i *Instance) Owner() (uid, gid int, err error) {
	fi, err := os.Stat(i.ManifestsDir())
	if errors.Is(err, fs.ErrNotExist) {
		fi, err = os.Stat(i.ConfigPath)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("owner: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("owner: %s: no numeric owner known", fi.Name())
	}
	return int(st.Uid), int(st.Gid), nil
}

// RestoredAt says when the last restore ended, from the marker of the stock
// scripts. ok is false when no restore has run. A marker without a readable line
// counts, with the time of the file: the scripts look only at its presence.
func (i *Instance) RestoredAt() (at time.Time, ok bool, err error) {
	path := i.RestoredMarker()
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, err
	}
	if !fi.Mode().IsRegular() { // test -f of the scripts says no
		return time.Time{}, false, fmt.Errorf("%s: is %s, not a plain file", path, modeName(fi.Mode()))
	}
	b, err := tail(path, maxSmall)
	if err != nil {
		return time.Time{}, false, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for n := len(lines) - 1; n >= 0; n-- {
		text, found := strings.CutPrefix(strings.TrimSpace(lines[n]), "restored at ")
		if t, err := time.Parse(markerTime, text); found && err == nil {
			return t, true, nil
		}
	}
	return fi.ModTime().UTC(), true, nil
}

// MarkRestored appends "restored at <time, UTC>" to the marker and makes it
// durable. From then on backups may run.
func (i *Instance) MarkRestored(at time.Time) error {
	if err := durable.MkdirAll(i.RunDir(), 0o755); err != nil {
		return fmt.Errorf("restored marker: %w", err)
	}
	path := i.RestoredMarker()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("restored marker: %w", err)
	}
	defer f.Close()
	line := "restored at " + at.UTC().Format(markerTime)
	if torn(f) {
		line = "\n" + line
	}
	if err := durable.Append(f, []byte(line)); err != nil {
		return fmt.Errorf("restored marker: %w", err)
	}
	return durable.SyncDir(i.RunDir())
}

// torn says whether a file does not end with a newline.
func torn(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], fi.Size()-1)
	return err == nil && last[0] != '\n'
}

// WriteBackupStatus records the exit number of a backup where the stock status
// script looks for it.
func (i *Instance) WriteBackupStatus(code int) error {
	if err := durable.MkdirAll(i.RunDir(), 0o755); err != nil {
		return fmt.Errorf("backup status: %w", err)
	}
	if err := durable.WriteFile(i.BackupStatus(), []byte(strconv.Itoa(code)+"\n"), 0o644); err != nil {
		return fmt.Errorf("backup status: %w", err)
	}
	return nil
}

// ReadBackupStatus returns the exit number of the last backup and when it ended.
// ok is false when none has run.
func (i *Instance) ReadBackupStatus() (code int, at time.Time, ok bool, err error) {
	return readStatus(i.BackupStatus())
}

// ReadLogUploadStatus returns the exit number of the last log upload and when it
// ended. ok is false when none has run.
func (i *Instance) ReadLogUploadStatus() (code int, at time.Time, ok bool, err error) {
	return readStatus(i.LogUploadStatus())
}

func readStatus(path string) (int, time.Time, bool, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, time.Time{}, false, nil
	}
	if err != nil {
		return 0, time.Time{}, false, err
	}
	b, err := readSmall(path)
	if err != nil {
		return 0, time.Time{}, false, err
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, time.Time{}, false, fmt.Errorf("%s: not a number: %q", path, clip(string(b)))
	}
	return code, fi.ModTime().UTC(), true, nil
}

// readSmall reads a plain file (or what a link leads to) of at most maxSmall
// bytes.
func readSmall(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxSmall {
		return nil, fmt.Errorf("%s: not a plain file of at most %d bytes", path, maxSmall)
	}
	return tail(path, maxSmall)
}

// tail reads at most the last n bytes of a file.
func tail(path string, n int64) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(fi.Size()-n, 0), n))
}

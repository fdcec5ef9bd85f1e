package instance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadManifestRefusesWhatIsNoManifestOfThisImage(t *testing.T) {
	i := newInstance(t, `{}`)
	d := i.DataDir()
	put(t, d, "manifests/"+uuidA+".raw", raw(uuidA))
	mf, err := i.ReadManifest(t.Context(), uuidA)
	if err != nil || mf.Manifest.UUID != uuidA || string(mf.Bytes) != raw(uuidA) || mf.Info.Size() != int64(len(mf.Bytes)) {
		t.Fatalf("%+v, %v", mf, err)
	}
	put(t, d, "manifests/"+uuidB+".raw", raw(uuidA))
	if _, err = i.ReadManifest(t.Context(), uuidB); err == nil || !strings.Contains(err.Error(), "uuid is "+uuidA+", not that of the file name") {
		t.Errorf("another's manifest: %v", err)
	}
	big := put(t, d, "manifests/"+uuidB+".raw", "")
	if err := os.Truncate(big, 100<<20); err != nil {
		t.Fatal(err)
	}
	if _, err = i.ReadManifest(t.Context(), uuidB); err == nil || !strings.Contains(err.Error(), "104857600 bytes, more than the 4194304") {
		t.Errorf("100 MiB: %v", err)
	}
	os.Remove(big)
	if _, err = i.ReadManifest(t.Context(), uuidB); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	os.Symlink(i.ManifestPath(uuidA), big)
	if _, err = i.ReadManifest(t.Context(), uuidB); !errors.Is(err, ErrNotRegular) {
		t.Errorf("link: %v", err)
	}
	os.Remove(big)
	if err := unix.Mkfifo(big, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = i.ReadManifest(t.Context(), uuidB); !errors.Is(err, ErrNotRegular) {
		t.Errorf("pipe: %v", err)
	}
	if _, err = i.ReadManifest(t.Context(), "../"+uuidA); err == nil {
		t.Error("a path passed as a UUID")
	}
}

func TestReadManifestSettledWaitsForATornOne(t *testing.T) {
	i := newInstance(t, `{}`)
	path := put(t, i.DataDir(), "manifests/"+uuidA+".raw", raw(uuidA)[:200])
	if _, err := i.ReadManifestSettled(t.Context(), uuidA, 2, time.Millisecond); !errors.Is(err, ErrTorn) {
		t.Errorf("one that stays torn: %v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		os.WriteFile(path, []byte(raw(uuidA)), 0o644)
	}()
	if mf, err := i.ReadManifestSettled(t.Context(), uuidA, 500, 5*time.Millisecond); err != nil || mf.Manifest.Name != "base-64" {
		t.Errorf("one that settles: %v", err)
	}
}

// A writer rewrites a manifest in place as the server does, with two texts of
// different length; no reader may ever get a mixture.
func TestReadStableNeverReturnsAMixture(t *testing.T) {
	i := newInstance(t, `{}`)
	one := raw(uuidA)
	two := strings.Replace(one, `"base-64"`, `"`+strings.Repeat("b", 300)+`"`, 1)
	path := put(t, i.DataDir(), "manifests/"+uuidA+".raw", one)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				os.WriteFile(path, []byte([]string{one, two}[n%2]), 0o644)
			}
		}
	}()
	good := 0
	for range 2000 {
		mf, err := i.ReadManifest(t.Context(), uuidA)
		switch {
		case errors.Is(err, ErrTorn) || errors.Is(err, ErrChanging):
		case err != nil:
			t.Error(err)
		case string(mf.Bytes) != one && string(mf.Bytes) != two:
			t.Errorf("a mixture of %d bytes", len(mf.Bytes))
		default:
			good++
		}
	}
	close(stop)
	<-done
	if good == 0 {
		t.Error("no reading succeeded")
	}
	t.Logf("%d of 2000 readings succeeded", good)
}

func TestImageFilesBehindLinksAreNotOpened(t *testing.T) {
	i := newInstance(t, `{}`)
	outside := put(t, t.TempDir(), uuidA+"/file0", "secret")
	put(t, i.DataDir(), "images/b1b/"+uuidB+"/file0", "abcd")
	f, fi, err := i.OpenImageFile(uuidB, "file0")
	if err != nil || fi.Size() != 4 {
		t.Fatal(err)
	}
	f.Close()
	shard := filepath.Join(i.ImagesDir(), "a1b")
	for name, link := range map[string][2]string{
		"shard": {filepath.Dir(filepath.Dir(outside)), shard},
		"image": {filepath.Dir(outside), filepath.Join(shard, uuidA)},
		"file":  {outside, filepath.Join(shard, uuidA, "file0")},
	} {
		os.RemoveAll(shard)
		os.MkdirAll(filepath.Dir(link[1]), 0o755)
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
		if _, _, err := i.OpenImageFile(uuidA, "file0"); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s is a link: open: %v", name, err)
		}
		if _, err := i.StatImageFile(uuidA, "file0"); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s is a link: stat: %v", name, err)
		}
	}
	for _, name := range []string{"../file0", "file0/..", "passwd", ""} {
		if _, err := i.StatImageFile(uuidB, name); err == nil {
			t.Errorf("%q passed as the name of an image file", name)
		}
	}
}

func TestVersionIDChangesWithEveryWrite(t *testing.T) {
	path := put(t, t.TempDir(), "f", "abcd")
	stat := func() os.FileInfo {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	a := stat()
	mtime := a.ModTime()
	time.Sleep(20 * time.Millisecond)
	os.WriteFile(path, []byte("abce"), 0o644)
	os.Chtimes(path, mtime, mtime) // the size and mtime are as before; only ctime tells
	b := stat()
	if SameVersion(a, b) || VersionID(a) == VersionID(b) {
		t.Errorf("%s and %s", VersionID(a), VersionID(b))
	}
	if !SameVersion(b, stat()) || VersionID(b) != VersionID(stat()) {
		t.Error("an untouched file changed its version")
	}
}

func TestMarkersAreThoseOfTheStockScripts(t *testing.T) {
	i := newInstance(t, `{}`)
	if _, ok, err := i.RestoredAt(); ok || err != nil {
		t.Errorf("before: %v %v", ok, err)
	}
	put(t, i.DataDir(), "run/restored.marker", "restored at 2016-09-07T12:00:00\nrestored at 2017-0") // torn
	if at, ok, err := i.RestoredAt(); !ok || err != nil || at != time.Date(2016, 9, 7, 12, 0, 0, 0, time.UTC) {
		t.Errorf("by a script: %v %v %v", at, ok, err)
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	if err := i.MarkRestored(when); err != nil {
		t.Fatal(err)
	}
	if at, ok, err := i.RestoredAt(); !ok || err != nil || !at.Equal(when) {
		t.Errorf("by us: %v %v %v", at, ok, err)
	}
	b, _ := os.ReadFile(i.RestoredMarker())
	if want := "restored at 2016-09-07T12:00:00\nrestored at 2017-0\nrestored at 2026-01-02T02:04:05\n"; string(b) != want {
		t.Errorf("marker is %q", b)
	}
	put(t, i.DataDir(), "run/restored.marker", "")
	if at, ok, err := i.RestoredAt(); !ok || err != nil || time.Since(at) > time.Hour {
		t.Errorf("an empty marker counts: %v %v %v", at, ok, err)
	}
	os.Remove(i.RestoredMarker())
	os.Mkdir(i.RestoredMarker(), 0o755)
	if _, ok, err := i.RestoredAt(); ok || err == nil {
		t.Errorf("a directory for a marker: %v %v", ok, err)
	}
}

func TestBackupStatusIsWrittenAndRead(t *testing.T) {
	i := newInstance(t, `{}`)
	if _, _, ok, err := i.ReadBackupStatus(); ok || err != nil {
		t.Errorf("before: %v %v", ok, err)
	}
	for _, code := range []int{3, 0} {
		if err := i.WriteBackupStatus(code); err != nil {
			t.Fatal(err)
		}
		got, at, ok, err := i.ReadBackupStatus()
		if got != code || !ok || err != nil || time.Since(at) > time.Hour {
			t.Errorf("%d %v %v %v", got, at, ok, err)
		}
		if b, _ := os.ReadFile(i.BackupStatus()); string(b) != fmt.Sprintf("%d\n", code) {
			t.Errorf("file is %q", b)
		}
	}
	put(t, i.DataDir(), "run/logupload.status", "oops\n")
	if _, _, _, err := i.ReadLogUploadStatus(); err == nil || !strings.Contains(err.Error(), `not a number: "oops\n"`) {
		t.Errorf("garbage: %v", err)
	}
}

func TestPublicKeyIsOneLine(t *testing.T) {
	i := newInstance(t, standalone)
	if _, err := i.PublicKey(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	pub := strings.TrimPrefix(i.KeyPath(), i.Root) + ".pub"
	put(t, i.Root, pub, "ecdsa-sha2-nistp256 AAAAE2VjZHNh imgapi-i0\n")
	if key, err := i.PublicKey(); err != nil || key != "ecdsa-sha2-nistp256 AAAAE2VjZHNh imgapi-i0" {
		t.Errorf("%q %v", key, err)
	}
	for _, bad := range []string{"", "x", "ssh-rsa !!", "ssh-rsa AAAA a\nssh-rsa AAAA b", "ssh-rsa AAAA \x1b[2J"} {
		put(t, i.Root, pub, bad)
		if key, err := i.PublicKey(); err == nil {
			t.Errorf("%q passed as %q", bad, key)
		}
	}
	if _, err := newInstance(t, `{}`).PublicKey(); err == nil {
		t.Error("no manta.key")
	}
}

func TestOwnerIsThatOfTheManifests(t *testing.T) {
	i := newInstance(t, `{}`)
	uid, gid, err := i.Owner() // of the config file: the server never ran
	if err != nil || uid != os.Getuid() || gid != os.Getgid() {
		t.Errorf("%d %d %v", uid, gid, err)
	}
	os.MkdirAll(i.ManifestsDir(), 0o755)
	if os.Getuid() == 0 {
		if err := os.Chown(i.ManifestsDir(), 60001, 60002); err != nil {
			t.Fatal(err)
		}
		if uid, gid, err = i.Owner(); err != nil || uid != 60001 || gid != 60002 {
			t.Errorf("%d %d %v", uid, gid, err)
		}
	}
	os.RemoveAll(i.DataDir())
	if _, _, err := i.Owner(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no instance: %v", err)
	}
}

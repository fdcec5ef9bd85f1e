package filestore

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

func hexOf(sum store.MD5) string { return hex.EncodeToString(sum[:]) }

// tryAll does everything to key and returns the errors by operation.
func tryAll(s *Store, key string) map[string]error {
	ctx := context.Background()
	errs := map[string]error{}
	_, errs["put"] = s.Put(ctx, key, store.Bytes("new"), store.Condition{})
	_, errs["put if absent"] = s.Put(ctx, key, store.Bytes("new"), store.IfAbsent())
	_, errs["head"] = s.Head(ctx, key)
	rc, _, err := s.Get(ctx, key)
	if err == nil {
		rc.Close()
	}
	errs["get"] = err
	errs["delete"] = s.Delete(ctx, key, store.Condition{})
	return errs
}

// TestSymbolicLinksAreNeverFollowed plants links to a place outside and inside.
func TestSymbolicLinksAreNeverFollowed(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "real/x", "inside")
	outside := filepath.Join(t.TempDir(), "outside")
	writeFile(t, filepath.Join(outside, "x"), "secret")
	for name, target := range map[string]string{
		"file": filepath.Join(outside, "x"), "dir": outside, "up": "../..", "in": "real", "infile": "real/x", "nowhere": "none", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"file", "infile", "nowhere", "loop", "dir", "dir/x", "dir/new/y", "up/x", "in/x", "in/new", "in"} {
		for op, err := range tryAll(s, key) {
			if err == nil {
				t.Errorf("%s %s: no error", op, key)
			}
		}
		for _, err := range s.List(context.Background(), key) {
			if err == nil {
				t.Errorf("list %s: goes on", key)
			}
		}
	}
	if l := listed(t, s, ""); len(l) != 1 {
		t.Errorf("the listing has links: %v", l)
	}
	wants(t, s, "real/x", "inside")
	if b, err := os.ReadFile(filepath.Join(outside, "x")); err != nil || string(b) != "secret" {
		t.Errorf("outside: %q, %v", b, err)
	}
	if es, _ := os.ReadDir(outside); len(es) != 1 {
		t.Errorf("outside: %v", es)
	}
}

// TestLinksInOurOwnDirectoryWriteNothingOutside: a medium somebody else prepared.
func TestLinksInOurOwnDirectoryWriteNothingOutside(t *testing.T) {
	shard, name := place("d/x")
	for _, at := range []string{metaDir, metaDir + "/" + shardName(shard), metaDir + "/" + shardName(shard) + "/" + lockFile, metaDir + "/" + shardName(shard) + "/" + name} {
		for kind, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
			s, dir := testStore(t)
			outside := t.TempDir()
			target := outside
			if filepath.Base(at) == lockFile || filepath.Base(at) == name {
				target = filepath.Join(outside, "file")
				writeFile(t, target, "precious")
			} else if kind == "hard" {
				continue
			}
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(at)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := link(target, filepath.Join(dir, at)); err != nil {
				t.Fatal(err)
			}
			_, err := s.Put(context.Background(), "d/x", store.Bytes("content"), store.Condition{})
			if err == nil {
				wants(t, s, "d/x", "content")
			}
			es, _ := os.ReadDir(outside)
			if target == outside && len(es) != 0 || target != outside && len(es) != 1 {
				t.Errorf("%s link at %s: outside has %v", kind, at, es)
			}
			if b, err := os.ReadFile(target); target != outside && (err != nil || string(b) != "precious") {
				t.Errorf("%s link at %s: outside is %q, %v", kind, at, b, err)
			}
		}
	}
}

func TestPipesAndDevicesAreLeftAlone(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	if err := unix.Mkfifo(filepath.Join(dir, "d/pipe"), 0o644); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	shard, name := place("d/x")
	record := filepath.Join(dir, metaDir, shardName(shard), name)
	os.Remove(record)
	if err := unix.Mkfifo(record, 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for op, err := range tryAll(s, "d/pipe") {
			if err == nil {
				t.Errorf("%s of a pipe: no error", op)
			}
		}
		if l := listed(t, s, "d"); len(l) != 1 {
			t.Errorf("listed %v", l)
		}
		wants(t, s, "d/x", "content")
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("hangs on a pipe")
	}
}

func TestNamesOfOursAreNotObjects(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	for _, key := range []string{metaDir, metaDir + "/00/lock", durable.TempPrefix + "1", "d/" + durable.TempPrefix + "1", durable.TempPrefix + "d/x"} {
		for op, err := range tryAll(s, key) {
			if !errors.Is(err, store.ErrBadKey) {
				t.Errorf("%s %s: %v", op, key, err)
			}
		}
	}
	put(t, s, "d/"+metaDir, "only the one at the top is ours")
	writeFile(t, filepath.Join(dir, "d/new\nline"), "x")
	var last error
	for _, err := range s.List(context.Background(), "d") {
		last = err
	}
	if !errors.Is(last, store.ErrBadKey) {
		t.Errorf("a name with a newline in a listing: %v", last)
	}
}

func TestAStoreThatIsNotMountedIsNotEmpty(t *testing.T) {
	s, err := New(filepath.Join(t.TempDir(), "mnt", "usb"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	errs := tryAll(s, "d/x")
	for _, errs["list"] = range s.List(context.Background(), "") {
	}
	_, errs["now"] = s.Now(context.Background())
	for op, err := range errs {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestAStoreInPlaceOfWhichThereIsAFileIsAnError(t *testing.T) {
	s, dir := testStore(t)
	writeFile(t, dir, "a file")
	errs := tryAll(s, "d/x")
	for _, errs["list"] = range s.List(context.Background(), "") {
	}
	for op, err := range errs {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// leftover makes what a crashed writer leaves, an hour ago.
func leftover(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, durable.TempPrefix+"left")
	writeFile(t, path, "half an obj")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLeftoversOfACrashAreInvisibleAndCleaned(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	path := leftover(t, filepath.Join(dir, "d"))
	if l := listed(t, s, "d"); len(l) != 1 {
		t.Errorf("listed %v", l)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not cleaned: %v", err)
	}

	leftover(t, filepath.Join(dir, "d"))
	for _, key := range []string{"d/x", "d"} {
		if err := s.Delete(context.Background(), key, store.Condition{}); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}

	path = leftover(t, filepath.Join(dir, metaDir))
	if _, err := s.Now(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not cleaned: %v", err)
	}
}

func TestAWriteUnderWayIsNotCleaned(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	path := leftover(t, filepath.Join(dir, "d"))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := holdTemp(f); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, "d", durable.TempPrefix+"fresh")
	writeFile(t, fresh, "not locked yet")
	listed(t, s, "d")
	for _, p := range []string{path, fresh} {
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("cleaned: %v", err)
		}
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	shard, _ := place("d/x")
	f, err := os.OpenFile(filepath.Join(dir, metaDir, shardName(shard), lockFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Put(ctx, "d/x", store.Bytes("new"), store.Condition{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put: %v", err)
	}
	if err := s.Delete(ctx, "d/x", store.Condition{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delete: %v", err)
	}
	if es, _ := os.ReadDir(filepath.Join(dir, "d")); len(es) != 1 {
		t.Errorf("left behind: %v", es)
	}
	wants(t, s, "d/x", "content") // reading needs no lock
	f.Close()
	put(t, s, "d/x", "new")
}

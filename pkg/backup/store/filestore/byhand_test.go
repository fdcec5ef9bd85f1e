package filestore

import (
	"context"
	"crypto/md5"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func testStore(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := New(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func put(t *testing.T, s *Store, key, content string) store.Info {
	t.Helper()
	info, err := s.Put(context.Background(), key, store.Bytes(content), store.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// wants checks key through Head and Get.
func wants(t *testing.T, s *Store, key, content string) store.Info {
	t.Helper()
	head, err := s.Head(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, got, err := store.Read(context.Background(), s, key, 1<<20)
	if err != nil || string(b) != content {
		t.Fatalf("%s: %.40q, %v; want %.40q", key, b, err, content)
	}
	if head != got || head.MD5 != md5.Sum([]byte(content)) || !head.HasMD5 || head.Size != int64(len(content)) {
		t.Errorf("%s: head %+v, get %+v", key, head, got)
	}
	return head
}

func listed(t *testing.T, s *Store, dir string) map[string]store.Info {
	t.Helper()
	m := map[string]store.Info{}
	for info, err := range s.List(context.Background(), dir) {
		if err != nil {
			t.Fatalf("list %q: %v", dir, err)
		}
		m[info.Key] = info
	}
	return m
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheTreeIsPlainFiles(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "backup/manifests/a.raw", "{}")
	put(t, s, "backup/images/abc/u/file0", "image")
	for path, want := range map[string]string{"backup/manifests/a.raw": "{}", "backup/images/abc/u/file0": "image"} {
		if b, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	var names []string
	filepath.WalkDir(filepath.Join(dir, "backup"), func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if es, _ := os.ReadDir(dir); len(names) != 2 || len(es) != 2 {
		t.Errorf("more than the objects and our own directory: %q, %v", names, es)
	}
}

// TestAChangeByHandIsNoticed changes an object in every way a person or another
// program does, the nastiest being the same size with the old time put back.
func TestAChangeByHandIsNoticed(t *testing.T) {
	for how, change := range map[string]func(t *testing.T, path string){
		"in place": func(t *testing.T, path string) { writeFile(t, path, "CONTENT") },
		"in place, time put back": func(t *testing.T, path string) {
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // past the clock tick of the write
			writeFile(t, path, "CONTENT")
			if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, path string) {
			writeFile(t, path+".new", "CONTENT")
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"deleted and made again": func(t *testing.T, path string) {
			os.Remove(path)
			writeFile(t, path, "CONTENT")
		},
	} {
		t.Run(strings.ReplaceAll(how, " ", "_"), func(t *testing.T) {
			s, dir := testStore(t)
			old := put(t, s, "d/x", "content")
			time.Sleep(20 * time.Millisecond)
			change(t, filepath.Join(dir, "d/x"))
			if l := listed(t, s, "d")["d/x"]; l.ETag == old.ETag || l.HasMD5 {
				t.Errorf("the listing trusts the record: %+v", l)
			}
			head := wants(t, s, "d/x", "CONTENT")
			if head.ETag == old.ETag {
				t.Error("the etag did not change")
			}
			if _, err := s.Put(context.Background(), "d/x", store.Bytes("late"), store.IfMatch(old.ETag)); !errors.Is(err, store.ErrCondition) {
				t.Errorf("the old etag still matches: %v", err)
			}
			if _, err := s.Put(context.Background(), "d/x", store.Bytes("next"), store.IfMatch(head.ETag)); err != nil {
				t.Errorf("the new etag does not match: %v", err)
			}
			wants(t, s, "d/x", "next")
		})
	}
}

func TestFilesBroughtInByHandAreObjects(t *testing.T) {
	s, dir := testStore(t)
	writeFile(t, filepath.Join(dir, "d/x"), "by hand")
	writeFile(t, filepath.Join(dir, "d/empty"), "")
	l := listed(t, s, "d")
	if len(l) != 2 || l["d/x"].HasMD5 || l["d/x"].Size != 7 {
		t.Fatalf("listed %+v", l)
	}
	head := wants(t, s, "d/x", "by hand")
	wants(t, s, "d/empty", "")
	if head.ETag != l["d/x"].ETag {
		t.Errorf("the listing has etag %q, head %q", l["d/x"].ETag, head.ETag)
	}
	if _, err := s.Put(context.Background(), "d/x", store.Bytes("new"), store.IfAbsent()); !errors.Is(err, store.ErrCondition) {
		t.Errorf("it counts as absent: %v", err)
	}
	if err := s.Delete(context.Background(), "d/x", store.IfMatch(head.ETag)); err != nil {
		t.Error(err)
	}
}

func TestAComputedSumIsRememberedOnceTheFileIsAtRest(t *testing.T) {
	s, dir := testStore(t)
	writeFile(t, filepath.Join(dir, "d/x"), "by hand")
	first := wants(t, s, "d/x", "by hand")
	if l := listed(t, s, "d")["d/x"]; l.HasMD5 {
		t.Error("the sum of a file changed this moment was remembered")
	}
	time.Sleep(2100 * time.Millisecond)
	second := wants(t, s, "d/x", "by hand")
	l := listed(t, s, "d")["d/x"]
	if !l.HasMD5 || l.MD5 != first.MD5 || l.ETag != first.ETag || second.ETag != first.ETag {
		t.Errorf("first %+v\nsecond %+v\nlisted %+v", first, second, l)
	}
}

func TestACopiedTreeIsRight(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	put(t, s, "d/sub/y", "other")
	to := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", dir, to).CombinedOutput(); err != nil {
		t.Skipf("no cp -a here: %v: %s", err, out)
	}
	c, err := New(to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, c, "d/x", "content")
	wants(t, c, "d/sub/y", "other")
	if l := listed(t, c, ""); len(l) != 1 {
		t.Errorf("the copy lists %v", l)
	}
	put(t, c, "d/x", "changed in the copy")
	wants(t, s, "d/x", "content")
}

func TestRecordsAreNeverNeeded(t *testing.T) {
	for how, harm := range map[string]func(path string) error{
		"removed":   os.Remove,
		"emptied":   func(p string) error { return os.Truncate(p, 0) },
		"cut":       func(p string) error { return os.Truncate(p, 50) },
		"garbage":   func(p string) error { return os.WriteFile(p, []byte("\xff\x00{"), 0o644) },
		"newer":     func(p string) error { return replaceIn(p, `"v":1`, `"v":2`) },
		"other key": func(p string) error { return replaceIn(p, `"d/x"`, `"d/y"`) },
		"huge":      func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o644) },
	} {
		s, dir := testStore(t)
		put(t, s, "d/x", "content")
		shard, name := place("d/x")
		if err := harm(filepath.Join(dir, metaDir, shardName(shard), name)); err != nil {
			t.Fatal(err)
		}
		wants(t, s, "d/x", "content")
		put(t, s, "d/x", "again")
		if l := listed(t, s, "d")["d/x"]; !l.HasMD5 {
			t.Errorf("%s: no record after the next put", how)
		}
		if err := os.RemoveAll(filepath.Join(dir, metaDir)); err != nil {
			t.Fatal(err)
		}
		wants(t, s, "d/x", "again")
	}
}

// TestARecordThatCannotBeWrittenIsNoHarm puts something in its place.
func TestARecordThatCannotBeWrittenIsNoHarm(t *testing.T) {
	s, dir := testStore(t)
	shard, name := place("d/x")
	writeFile(t, filepath.Join(dir, metaDir, shardName(shard), name, "in the way"), "")
	seen := map[string]bool{}
	for _, content := range []string{"one", "two", "six"} {
		info := put(t, s, "d/x", content)
		if head := wants(t, s, "d/x", content); head.ETag != info.ETag {
			t.Errorf("put says etag %q, head %q", info.ETag, head.ETag)
		}
		if seen[info.ETag] {
			t.Errorf("the etag %q comes again", info.ETag)
		}
		seen[info.ETag] = true
		time.Sleep(20 * time.Millisecond) // such etags are as good as the clock of the file system
	}
}

func replaceIn(path, old, new string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o644)
}

// TestContentThatRotsIsCorrupt plays a disk that gives other bytes for a file
// nobody touched: the record says another sum.
func TestContentThatRotsIsCorrupt(t *testing.T) {
	s, dir := testStore(t)
	info := put(t, s, "d/x", "content")
	shard, name := place("d/x")
	sum, other := md5.Sum([]byte("content")), md5.Sum([]byte("c0ntent"))
	if err := replaceIn(filepath.Join(dir, metaDir, shardName(shard), name), hexOf(sum), hexOf(other)); err != nil {
		t.Fatal(err)
	}
	rc, got, err := s.Get(context.Background(), "d/x")
	if err != nil || got.ETag != info.ETag {
		t.Fatalf("%+v, %v", got, err)
	}
	defer rc.Close()
	if _, err := io.ReadAll(rc); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("read to the end: %v", err)
	}
	if _, err := rc.Read(make([]byte, 1)); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("reading on: %v", err)
	}
}

// TestAFileThatChangesUnderItsReaderIsCorrupt: in place, as rsync --inplace does.
func TestAFileThatChangesUnderItsReaderIsCorrupt(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"longer":  func(p string) error { return os.WriteFile(p, make([]byte, 300<<10), 0o644) },
		"shorter": func(p string) error { return os.Truncate(p, 150<<10) },
		"other":   func(p string) error { return os.WriteFile(p, make([]byte, 200<<10), 0o644) },
	} {
		s, dir := testStore(t)
		put(t, s, "x", strings.Repeat("content ", 25<<10))
		rc, _, err := s.Get(context.Background(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := io.ReadFull(rc, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
		if err := change(filepath.Join(dir, "x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(rc); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	id := identity{Size: 7, MTime: 1, CTime: 2, Inode: 3}
	f.Add([]byte(`{"v":1,"key":"k","identity":{"size":7,"mtime_ns":1,"ctime_ns":2,"inode":3},"etag":"e","md5":"9a0364b9e99bb480dd25e1f0284c8555"}`))
	f.Add([]byte(`{"v":1,"key":"k","identity":{"size":7,"mtime_ns":1,"ctime_ns":2,"inode":3},"etag":"e","md5":"9a03"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, sum, ok := decodeRecord(b, "k", id)
		if !ok && (r != record{} || sum != store.MD5{}) {
			t.Error("a refused record leaks")
		}
		if ok && (r.Key != "k" || r.Identity != id || r.ETag == "" || !strings.EqualFold(hexOf(sum), r.MD5)) {
			t.Errorf("accepted: %+v", r)
		}
	})
}

func TestDecodeRecordAcceptsWhatIsWritten(t *testing.T) {
	s, dir := testStore(t)
	info := put(t, s, "d/x", "content")
	shard, name := place("d/x")
	b, err := os.ReadFile(filepath.Join(dir, metaDir, shardName(shard), name))
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(filepath.Join(dir, "d/x"))
	if err != nil {
		t.Fatal(err)
	}
	r, sum, ok := decodeRecord(b, "d/x", identify(fi))
	if !ok || r.ETag != info.ETag || sum != info.MD5 {
		t.Errorf("%+v, %v", r, ok)
	}
}

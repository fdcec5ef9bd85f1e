package filestore

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

// mounted runs the test again in a process with mounts of its own and there, with
// a small file system mounted, the function. It skips where that is not allowed.
func mounted(t *testing.T, options string, f func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv("FILESTORE_MOUNT"); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("mount: %v", err)
		}
		f(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "FILESTORE_MOUNT="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.Process == nil:
		t.Skipf("no process with mounts of its own: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	}
}

func TestAFullDiskIsAnErrorAndHarmsNothing(t *testing.T) {
	mounted(t, "size=1m", func(t *testing.T, mount string) {
		s, err := New(filepath.Join(mount, "store"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		old := put(t, s, "d/x", "old")
		for _, cond := range []store.Condition{{}, store.IfMatch(old.ETag)} {
			_, err = s.Put(context.Background(), "d/x", store.Bytes(make([]byte, 2<<20)), cond)
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, store.ErrUnknownOutcome) || !strings.HasPrefix(err.Error(), "d/x: ") {
				t.Errorf("%v", err)
			}
		}
		if head := wants(t, s, "d/x", "old"); head.ETag != old.ETag {
			t.Error("the old object has another etag")
		}
		if es, err := os.ReadDir(filepath.Join(mount, "store", "d")); err != nil || len(es) != 1 {
			t.Errorf("left behind: %v, %v", es, err)
		}
		put(t, s, "d/y", "there is room again")
	})
}

func TestAReadOnlyMediumCanBeRead(t *testing.T) {
	mounted(t, "size=4m", func(t *testing.T, mount string) {
		s, err := New(filepath.Join(mount, "store"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "d/x", "content")
		writeFile(t, filepath.Join(mount, "store", "d", "byhand"), "by hand")
		leftover(t, filepath.Join(mount, "store", "d"))
		if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Skipf("remount: %v", err)
		}
		wants(t, s, "d/x", "content")
		wants(t, s, "d/byhand", "by hand")
		if l := listed(t, s, "d"); len(l) != 2 {
			t.Errorf("listed %v", l)
		}
		if now, err := s.Now(context.Background()); err != nil || time.Since(now).Abs() > time.Minute {
			t.Errorf("now: %v, %v", now, err)
		}
		if _, err := s.Put(context.Background(), "d/x", store.Bytes("new"), store.Condition{}); !errors.Is(err, syscall.EROFS) {
			t.Errorf("put: %v", err)
		}
		if err := s.Delete(context.Background(), "d/x", store.Condition{}); !errors.Is(err, syscall.EROFS) {
			t.Errorf("delete: %v", err)
		}
	})
}

// TestPermissionIsUnavailable gives up root's rights over files on one thread.
func TestPermissionIsUnavailable(t *testing.T) {
	s, dir := testStore(t)
	put(t, s, "d/x", "content")
	put(t, s, "locked/x", "content")
	for _, above := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "locked"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "locked"), 0o700)
	if err := os.Chmod(filepath.Join(dir, "d"), 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "d"), 0o700)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Getuid() == 0 {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		for op, err := range tryAll(s, "locked/x") {
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s below a closed directory: %v", op, err)
			}
		}
		if _, err := s.Put(context.Background(), "d/y", store.Bytes("new"), store.Condition{}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("put into a directory that may not be written: %v", err)
		}
		if b, _, err := store.Read(context.Background(), s, "d/x", 100); err != nil || string(b) != "content" {
			t.Errorf("reading there: %q, %v", b, err)
		}
	}()
	<-done
	if es, _ := os.ReadDir(filepath.Join(dir, "d")); len(es) != 1 || strings.HasPrefix(es[0].Name(), durable.TempPrefix) {
		t.Errorf("left behind: %v", es)
	}
}

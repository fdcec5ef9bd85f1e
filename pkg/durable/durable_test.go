package durable

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWriteReplacesWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	if err := WriteFile(p, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("disk full")
	err := Write(p, 0o600, func(w io.Writer) error {
		io.WriteString(w, "tw")
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("err = %v", err)
	}
	if b, _ := os.ReadFile(p); string(b) != "one" {
		t.Errorf("old content lost: %q", b)
	}
	if es, _ := os.ReadDir(dir); len(es) != 1 {
		t.Errorf("temporary file left: %v", es)
	}
	if fi, _ := os.Stat(p); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
}

func TestSyncTreeAndMkdirAllAndRename(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	if err := MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(deep, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, sync := range map[string]func(string) error{"SyncTree": SyncTree, "syncEach": syncEach} {
		if err := sync(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := sync(filepath.Join(dir, "absent")); err == nil {
			t.Errorf("%s of an absent tree succeeded", name)
		}
	}
	if err := Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z")); err != nil {
		t.Fatal(err)
	}
	if err := Remove(filepath.Join(dir, "z", "b", "c", "x")); err != nil {
		t.Fatal(err)
	}
	if err := Remove(filepath.Join(dir, "z", "b", "c", "x")); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestRemoveTempsLeavesOthers(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{TempPrefix + "f-1", "f"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemps(dir); err != nil {
		t.Fatal(err)
	}
	if es, _ := os.ReadDir(dir); len(es) != 1 || es[0].Name() != "f" {
		t.Errorf("left: %v", es)
	}
}

func TestAppendDoesNotTouchTheCallersBuffer(t *testing.T) {
	p := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := []byte("abc")
	if err := Append(f, buf[:1]); err != nil {
		t.Fatal(err)
	}
	if string(buf) != "abc" {
		t.Errorf("buffer changed: %q", buf)
	}
	if b, _ := os.ReadFile(p); string(b) != "a\n" {
		t.Errorf("file: %q", b)
	}
}

// TestLockIsExclusiveBetweenProcesses starts this test binary again as the holder.
func TestLockIsExclusiveBetweenProcesses(t *testing.T) {
	if p := os.Getenv("DURABLE_HOLD"); p != "" {
		if _, err := Acquire(p, "holder"); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		io.ReadAll(os.Stdin)
		return
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "DURABLE_HOLD="+path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(out, buf); err != nil || string(buf) != "held\n" {
		t.Fatalf("holder did not start: %q %v", buf, err)
	}
	_, err := Acquire(path, "second")
	var held *HeldError
	if !errors.As(err, &held) || held.Holder.PID != cmd.Process.Pid || !strings.Contains(err.Error(), "holder (pid") {
		t.Errorf("second comer got %v", err)
	}
	// kill -9 must free it.
	cmd.Process.Kill()
	in.Close()
	cmd.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for {
		l, err := Acquire(path, "third")
		if err == nil {
			if err := l.Release(); err != nil {
				t.Error(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still held after the holder's death: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

package filestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// child runs this test again in another process, on the store in dir.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "FILESTORE_CHILD="+dir)
	return cmd
}

// asChild returns the store to work on in a child, nil in the parent.
func asChild(t *testing.T) *Store {
	t.Helper()
	dir := os.Getenv("FILESTORE_CHILD")
	if dir == "" {
		return nil
	}
	s, err := New(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCompareAndSetHoldsBetweenProcesses(t *testing.T) {
	const processes, each = 4, 40
	ctx := context.Background()
	if s := asChild(t); s != nil {
		for done := 0; done < each; {
			b, info, err := store.Read(ctx, s, "counter", 16)
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(string(b))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Put(ctx, "counter", store.Bytes(strconv.Itoa(n+1)), store.IfMatch(info.ETag))
			switch {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrCondition):
				t.Fatal(err)
			}
		}
		return
	}
	s, dir := testStore(t)
	put(t, s, "counter", "0")
	var children []*exec.Cmd
	for range processes {
		cmd := child(t, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("a process: %v", err)
		}
	}
	wants(t, s, "counter", strconv.Itoa(processes*each))
}

func version(key string, n int) string {
	return strings.Repeat(fmt.Sprintf("%s %04d\n", key, n), 20<<10)
}

// TestKillingAWriterLeavesWholeObjects kills a process that writes, at moments
// spread over its work.
func TestKillingAWriterLeavesWholeObjects(t *testing.T) {
	keys := []string{"d/a", "d/b", "e/f/c"}
	if s := asChild(t); s != nil {
		for n := 0; ; n++ {
			key := keys[n%len(keys)]
			cond := store.Condition{}
			if info, err := s.Head(context.Background(), key); err == nil && n%2 == 0 {
				cond = store.IfMatch(info.ETag)
			}
			if n%7 == 6 {
				if err := s.Delete(context.Background(), key, cond); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if _, err := s.Put(context.Background(), key, store.Bytes(version(key, n)), cond); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, dir := testStore(t)
	put(t, s, "d/a", version("d/a", 0))
	found := 0
	for range 25 {
		cmd := child(t, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("the writer had ended by itself: %v", err)
		}
		cmd.Wait()
		for _, key := range keys {
			b, info, err := store.Read(context.Background(), s, key, 1<<20)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			found++
			var n int
			if _, err := fmt.Sscanf(string(b), key+" %d", &n); err != nil || string(b) != version(key, n) {
				t.Fatalf("%s holds %d bytes that nobody wrote", key, len(b))
			}
			if _, err := s.Put(context.Background(), key, store.Bytes(version(key, 1)), store.IfMatch(info.ETag)); err != nil {
				t.Fatalf("the next writer: %v", err)
			}
		}
		for key := range listed(t, s, "d") {
			if key != "d/a" && key != "d/b" {
				t.Errorf("listed %s", key)
			}
		}
	}
	if found == 0 {
		t.Error("no object was ever there: the test tests nothing")
	}
}

package storetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func contentTests() group {
	return group{
		"a source of another length fails and changes nothing": wrongLength,
		"a source that breaks fails and changes nothing":       brokenSource,
		"an object appears whole or not at all":                invisibleUntilDone,
		"a put cancelled midway changes nothing":               cancelMidway,
		"a reader of a replaced object never mixes two":        replacedWhileRead,
	}
}

// sizesInTest returns sizes below and above the size from which an upload is streamed.
func sizesInTest() map[string]int { return map[string]int{"small": 1000, "large": 2<<20 + 13} }

// unharmed runs try on an absent key and on one that holds an object, without
// and with a condition that holds, and checks that nothing changed.
func unharmed(t *testing.T, e *env, dir string, try func(key string, cond store.Condition) error) {
	t.Helper()
	old := e.put(t, dir+"/old", "old content")
	for what, c := range map[string]struct {
		key  string
		cond store.Condition
	}{
		"over an object":      {"/old", store.Condition{}},
		"over a known object": {"/old", store.IfMatch(old.ETag)},
		"new":                 {"/new", store.Condition{}},
		"new, if absent":      {"/new2", store.IfAbsent()},
	} {
		if err := try(dir+c.key, c.cond); err == nil {
			t.Errorf("%s: %s: no error", dir, what)
		}
	}
	if head := e.wants(t, dir+"/old", "old content"); head.ETag != old.ETag {
		t.Errorf("%s: the etag of the old object went from %q to %q", dir, old.ETag, head.ETag)
	}
	e.gone(t, dir+"/new")
	e.gone(t, dir+"/new2")
	if l := e.list(t, dir); len(l) != 1 {
		t.Errorf("%s: left behind: %q", dir, keys(l))
	}
}

func wrongLength(t *testing.T, e *env) {
	for what, n := range sizesInTest() {
		unharmed(t, e, what+"-short", func(key string, cond store.Condition) error {
			_, err := e.s.Put(e.ctx, key, lying(pattern(n-1), n), cond)
			return err
		})
		unharmed(t, e, what+"-long", func(key string, cond store.Condition) error {
			_, err := e.s.Put(e.ctx, key, lying(pattern(n+1), n), cond)
			return err
		})
	}
	unharmed(t, e, "empty-long", func(key string, cond store.Condition) error {
		_, err := e.s.Put(e.ctx, key, lying("x", 0), cond)
		return err
	})
	unharmed(t, e, "empty-short", func(key string, cond store.Condition) error {
		_, err := e.s.Put(e.ctx, key, lying("", 1), cond)
		return err
	})
}

func brokenSource(t *testing.T, e *env) {
	boom := errors.New("bad sector")
	for what, n := range sizesInTest() {
		unharmed(t, e, what, func(key string, cond store.Condition) error {
			_, err := e.s.Put(e.ctx, key, broken(pattern(n), boom), cond)
			if !errors.Is(err, boom) {
				t.Errorf("the cause is not in %v", err)
			}
			return err
		})
	}
	unharmed(t, e, "unopened", func(key string, cond store.Condition) error {
		_, err := e.s.Put(e.ctx, key, source{5, func() (io.ReadCloser, error) { return nil, boom }}, cond)
		if !errors.Is(err, boom) {
			t.Errorf("the cause is not in %v", err)
		}
		return err
	})
}

// underWay starts a Put whose source has given half of its content and waits for
// gate to be closed.
func underWay(t *testing.T, ctx context.Context, s store.Store, key, content string, cond store.Condition, gate <-chan struct{}) <-chan error {
	t.Helper()
	half, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		_, err := s.Put(ctx, key, gated(content, half, gate), cond)
		done <- err
	}()
	select {
	case <-half:
	case err := <-done:
		t.Fatalf("put %s ended before half of the source was read: %v", key, err)
	}
	return done
}

func invisibleUntilDone(t *testing.T, e *env) {
	content := pattern(4 << 20)
	for _, key := range []string{"d/new", "d/old"} {
		if key == "d/old" {
			e.put(t, key, "before")
		}
		gate := make(chan struct{})
		done := underWay(t, e.ctx, e.s, key, content, store.Condition{}, gate)
		if key == "d/new" {
			e.gone(t, key)
		} else {
			e.wants(t, key, "before")
		}
		close(gate)
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		e.wants(t, key, content)
	}
}

func cancelMidway(t *testing.T, e *env) {
	unharmed(t, e, "d", func(key string, cond store.Condition) error {
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		gate := make(chan struct{})
		defer close(gate) // only then may the source go on
		done := underWay(t, ctx, e.s, key, pattern(4<<20), cond, gate)
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrUnknownOutcome) {
				t.Errorf("%s: %v", key, err)
			}
			return err
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: still running 20s after it was cancelled", key)
			return nil
		}
	})
}

func replacedWhileRead(t *testing.T, e *env) {
	one, two := strings.Repeat("1", 3<<20), strings.Repeat("2", 2<<20)
	e.put(t, "d/x", one)
	rc, _, err := e.s.Get(e.ctx, "d/x")
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	e.put(t, "d/x", two)
	if rest, err := io.ReadAll(rc); err == nil && string(rest) != one[1000:] {
		t.Errorf("a reader of the old object got %d other bytes and no error", len(rest))
	}
	e.wants(t, "d/x", two)
}

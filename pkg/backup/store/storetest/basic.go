package storetest

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func basicTests() group {
	return group{
		"an object reads back as it was put":                  readsBack,
		"what is absent is not found":                         absent,
		"deleting removes and deleting again is no error":     deletes,
		"a put replaces and every put has a new etag":         newETag,
		"the clock is that of the objects":                    clock,
		"a cancelled context stops everything before it acts": cancelled,
		"Read refuses more than its limit":                    readLimit,
	}
}

func readsBack(t *testing.T, e *env) {
	// Around the size from which an upload is streamed, and around buffer sizes.
	for _, size := range []int{0, 1, 4096, 128<<10 + 1, 1 << 20, 1<<20 + 1, 3<<20 - 7} {
		key, content := fmt.Sprintf("sizes/%d", size), pattern(size)
		info := e.put(t, key, content)
		if info.Key != key || info.Dir || info.Size != int64(size) || !info.HasMD5 || info.MD5 != md5.Sum([]byte(content)) || info.ETag == "" {
			t.Errorf("put says %+v", info)
		}
		head := e.wants(t, key, content)
		if head.ETag != info.ETag {
			t.Errorf("%s: put says etag %q, head %q", key, info.ETag, head.ETag)
		}
		var listed store.Info
		for _, l := range e.list(t, "sizes") {
			if l.Key == key {
				listed = l
			}
		}
		if listed.Size != int64(size) || listed.ETag != info.ETag || listed.Dir || listed.MTime.IsZero() {
			t.Errorf("list says %+v, put %+v", listed, info)
		}
		if listed.HasMD5 && listed.MD5 != info.MD5 {
			t.Errorf("list has md5 %x, put %x", listed.MD5, info.MD5)
		}
	}
}

func absent(t *testing.T, e *env) {
	e.gone(t, "nothing")
	e.gone(t, "no/such/directory/x")
	e.put(t, "d/x", "x")
	e.gone(t, "d/y")
	e.gone(t, "d/x2")
}

func deletes(t *testing.T, e *env) {
	e.put(t, "d/x", "x")
	e.put(t, "d/y", "y")
	for range 2 {
		if err := e.s.Delete(e.ctx, "d/x", store.Condition{}); err != nil {
			t.Fatalf("delete: %v", err)
		}
		e.gone(t, "d/x")
	}
	e.wants(t, "d/y", "y")
	if err := e.s.Delete(e.ctx, "no/such/directory/x", store.Condition{}); err != nil {
		t.Errorf("delete below an absent directory: %v", err)
	}
}

func newETag(t *testing.T, e *env) {
	seen := map[string]bool{}
	for i := range 20 {
		content := "same"
		if i%5 == 0 {
			content = "other"
		}
		info := e.put(t, "d/x", content)
		if seen[info.ETag] {
			t.Fatalf("write %d has the etag of an earlier one, %q", i, info.ETag)
		}
		seen[info.ETag] = true
		if head := e.wants(t, "d/x", content); head.ETag != info.ETag {
			t.Errorf("write %d: put says etag %q, head %q", i, info.ETag, head.ETag)
		}
	}
}

func clock(t *testing.T, e *env) {
	before, err := e.s.Now(e.ctx)
	if err != nil {
		t.Fatalf("now, with nothing there: %v", err)
	}
	e.put(t, "d/x", "x")
	head := e.wants(t, "d/x", "x")
	after, err := e.s.Now(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	const tick = 2 * time.Second // Manta counts whole seconds
	if head.MTime.Before(before.Add(-tick)) || head.MTime.After(after.Add(tick)) {
		t.Errorf("an object was written between %v and %v by the store's clock and has mtime %v", before, after, head.MTime)
	}
	if after.Before(before.Add(-tick)) {
		t.Errorf("the clock went from %v back to %v", before, after)
	}
	if name := e.s.String(); name == "" || strings.ContainsAny(name, "\n\r\t") {
		t.Errorf("the store is called %q", name)
	}
}

func cancelled(t *testing.T, e *env) {
	e.put(t, "d/x", "x")
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, put := e.s.Put(ctx, "d/new", store.Bytes("new"), store.Condition{})
	_, head := e.s.Head(ctx, "d/x")
	rc, _, get := e.s.Get(ctx, "d/x")
	if get == nil {
		rc.Close()
	}
	var list error
	for _, err := range e.s.List(ctx, "d") {
		list = err
	}
	for what, err := range map[string]error{
		"put": put, "head": head, "get": get, "list": list, "delete": e.s.Delete(ctx, "d/x", store.Condition{}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	e.gone(t, "d/new")
	e.wants(t, "d/x", "x")
}

func readLimit(t *testing.T, e *env) {
	e.put(t, "d/x", "12345")
	if b, _, err := store.Read(e.ctx, e.s, "d/x", 5); err != nil || string(b) != "12345" {
		t.Errorf("at the limit: %q, %v", b, err)
	}
	if _, _, err := store.Read(e.ctx, e.s, "d/x", 4); err == nil {
		t.Error("five bytes were read with a limit of four")
	}
	rc, _, err := e.s.Get(e.ctx, "d/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(rc, make([]byte, 2)); err != nil {
		t.Errorf("reading a part: %v", err)
	}
	if err := rc.Close(); err != nil {
		t.Errorf("closing early: %v", err)
	}
}

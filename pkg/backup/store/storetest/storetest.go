// Package storetest holds the contract of [store.Store] as a test suite that
// every implementation passes, and [Faulty], a decorator that injects faults
// into any store.
package storetest

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// timeout ends a contract test that hangs.
const timeout = 2 * time.Minute

// Run runs the contract. open returns an empty store that the test may fill; it
// registers its own cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, tests := range []group{basicTests(), directoryTests(), conditionTests(), contentTests(), concurrencyTests(), nameTests()} {
		for _, name := range slices.Sorted(maps.Keys(tests)) {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				tests[name](t, &env{ctx: ctx, s: open(t)})
			})
		}
	}
}

// group is contract tests by what they claim.
type group map[string]func(*testing.T, *env)

// env is what a contract test works on. Its methods fail the test, and must
// therefore run on its goroutine.
type env struct {
	ctx context.Context
	s   store.Store
}

// put writes an object without condition.
func (e *env) put(t *testing.T, key, content string) store.Info {
	t.Helper()
	info, err := e.s.Put(e.ctx, key, store.Bytes(content), store.Condition{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

// wants checks that key holds content, through Get and Head.
func (e *env) wants(t *testing.T, key, content string) store.Info {
	t.Helper()
	b, got, err := store.Read(e.ctx, e.s, key, 64<<20)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if string(b) != content {
		t.Fatalf("get %s: %s, want %s", key, abbreviate(string(b)), abbreviate(content))
	}
	head, err := e.s.Head(e.ctx, key)
	if err != nil {
		t.Fatalf("head %s: %v", key, err)
	}
	for from, info := range map[string]store.Info{"get": got, "head": head} {
		if !info.HasMD5 || info.MD5 != md5.Sum([]byte(content)) || info.Size != int64(len(content)) || info.Key != key || info.Dir {
			t.Errorf("%s %s says %+v", from, key, info)
		}
	}
	if got.ETag != head.ETag || got.ETag == "" {
		t.Errorf("%s: get says etag %q, head %q", key, got.ETag, head.ETag)
	}
	return head
}

// gone checks that nothing is at key: not for Head, Get or a listing.
func (e *env) gone(t *testing.T, key string) {
	t.Helper()
	if info, err := e.s.Head(e.ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("head %s: %+v, %v; want ErrNotFound", key, info, err)
	}
	rc, _, err := e.s.Get(e.ctx, key)
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get %s: %v; want ErrNotFound", key, err)
	}
	if err == nil {
		rc.Close()
	}
	dir := ""
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		dir = key[:i]
	}
	for _, info := range e.list(t, dir) {
		if info.Key == key {
			t.Errorf("list %q still has %+v", dir, info)
		}
	}
}

// list returns a whole listing.
func (e *env) list(t *testing.T, dir string) []store.Info {
	t.Helper()
	var all []store.Info
	for info, err := range e.s.List(e.ctx, dir) {
		if err != nil {
			t.Fatalf("list %q: %v", dir, err)
		}
		all = append(all, info)
	}
	return all
}

func keys(infos []store.Info) []string {
	var ks []string
	for _, info := range infos {
		ks = append(ks, info.Key)
	}
	return ks
}

func abbreviate(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// pattern returns n bytes that differ from any shift of themselves.
func pattern(n int) string {
	b := make([]byte, n)
	x := uint32(n) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// source is a Source that says one size and holds another content.
type source struct {
	size int64
	open func() (io.ReadCloser, error)
}

func (s source) Open() (io.ReadCloser, error) { return s.open() }
func (s source) Size() int64                  { return s.size }

// lying is content with a size that may be wrong.
func lying(content string, size int) source {
	return source{int64(size), func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// broken gives half of its content and then an error.
func broken(content string, err error) source {
	return source{int64(len(content)), func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(content[:len(content)/2]), failing{err})), nil
	}}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// gated gives half of its content, then says so on half and waits for gate, or
// for being closed, before the rest.
func gated(content string, half chan<- struct{}, gate <-chan struct{}) source {
	return source{int64(len(content)), func() (io.ReadCloser, error) {
		return &gatedReader{first: bytes.NewReader([]byte(content[:len(content)/2])),
			rest: strings.NewReader(content[len(content)/2:]), half: half, gate: gate, closed: make(chan struct{})}, nil
	}}
}

type gatedReader struct {
	first, rest io.Reader
	half        chan<- struct{}
	gate        <-chan struct{}
	closed      chan struct{}
	once        sync.Once
	told        bool
}

func (g *gatedReader) Read(p []byte) (int, error) {
	if n, err := g.first.Read(p); err == nil {
		return n, nil
	}
	if !g.told {
		g.told = true
		select {
		case g.half <- struct{}{}:
		default:
		}
		select {
		case <-g.gate:
		case <-g.closed:
			return 0, io.ErrClosedPipe
		}
	}
	return g.rest.Read(p)
}

func (g *gatedReader) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

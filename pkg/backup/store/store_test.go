package store_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
)

func TestCheckKeyAcceptsPlainRelativePaths(t *testing.T) {
	for _, key := range []string{
		"a", "backup/log/0000000001", "images/abc/5a3a1c0e-7a1b-4b1e-9d3e-0c1d2e3f4a5b/file0", "with space", "ünï/日本", ".hidden", "...", "a..b", "%2e%2e",
		strings.Repeat("x", 255), strings.Repeat("x/", 511) + "xx",
	} {
		if err := store.CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestCheckKeyRefusesHostileNames(t *testing.T) {
	for _, key := range storetest.BadKeys() {
		if err := store.CheckKey(key); !errors.Is(err, store.ErrBadKey) {
			t.Errorf("%.60q: %v", key, err)
		} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("%.60q: control characters in the error text", key)
		}
	}
}

// FuzzCheckKey holds what callers rely on: an accepted key, joined to a
// directory, stays below it and keeps its components.
func FuzzCheckKey(f *testing.F) {
	for _, key := range append(storetest.BadKeys(), "a", "a/b", "..a/b..", "a/...") {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if store.CheckKey(key) != nil {
			return
		}
		if !filepath.IsLocal(key) || filepath.Clean(key) != key || filepath.Join("/top", key) != "/top/"+key {
			t.Errorf("%q leaves its directory", key)
		}
		if !utf8.ValidString(key) || strings.ContainsAny(key, "\x00\n\r\t\x1b\x7f\\") {
			t.Errorf("%q can forge a line or a path", key)
		}
		for c := range strings.SplitSeq(key, "/") {
			if c == "" || len(c) > 255 {
				t.Errorf("%q has the component %q", key, c)
			}
		}
	})
}

func TestConditionsAreDistinct(t *testing.T) {
	none, absent, match := store.Condition{}, store.IfAbsent(), store.IfMatch("e")
	if !none.Unconditional() || absent.Unconditional() || match.Unconditional() {
		t.Error("Unconditional")
	}
	if none.Absent() || !absent.Absent() || match.Absent() {
		t.Error("Absent")
	}
	if none.ETag() != "" || absent.ETag() != "" || match.ETag() != "e" {
		t.Error("ETag")
	}
}

func TestSourcesOpenMoreThanOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range []store.Source{store.Bytes("content"), store.File{Path: path, Length: 7}} {
		for range 2 {
			rc, err := src.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(rc)
			rc.Close()
			if err != nil || string(b) != "content" || src.Size() != 7 {
				t.Errorf("%T: %q, %d, %v", src, b, src.Size(), err)
			}
		}
	}
}

// answering is a store whose only object is what it says.
type answering struct {
	info store.Info
	body io.Reader
	err  error
}

func (a answering) Get(context.Context, string) (io.ReadCloser, store.Info, error) {
	return io.NopCloser(a.body), a.info, a.err
}
func (a answering) Put(context.Context, string, store.Source, store.Condition) (store.Info, error) {
	return a.info, a.err
}
func (a answering) Head(context.Context, string) (store.Info, error)          { return a.info, a.err }
func (a answering) Delete(context.Context, string, store.Condition) error     { return a.err }
func (a answering) List(context.Context, string) iter.Seq2[store.Info, error] { return nil }
func (a answering) Now(context.Context) (time.Time, error)                    { return time.Time{}, a.err }
func (a answering) String() string                                            { return "answering" }

func TestReadIsBoundedWhateverTheStoreSays(t *testing.T) {
	ctx := context.Background()
	endless := io.MultiReader(strings.NewReader(strings.Repeat("x", 100)), strings.NewReader(strings.Repeat("x", 1<<20)))
	if _, _, err := store.Read(ctx, answering{info: store.Info{Size: 3}, body: endless}, "k", 10); err == nil {
		t.Error("a body longer than its size went past the limit")
	}
	if _, _, err := store.Read(ctx, answering{info: store.Info{Size: 11}, body: strings.NewReader("")}, "k", 10); err == nil {
		t.Error("an object over the limit was read")
	}
	broken := io.MultiReader(strings.NewReader("abc"), failing{store.ErrCorrupt})
	if _, _, err := store.Read(ctx, answering{info: store.Info{Size: 4}, body: broken}, "k", 10); !errors.Is(err, store.ErrCorrupt) || !strings.HasPrefix(err.Error(), "k: ") {
		t.Errorf("a corrupt body: %v", err)
	}
	if _, _, err := store.Read(ctx, answering{err: store.ErrNotFound}, "k", 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent object: %v", err)
	}
	if b, _, err := store.Read(ctx, answering{info: store.Info{Size: 3}, body: strings.NewReader("abc")}, "k", 3); err != nil || string(b) != "abc" {
		t.Errorf("an object of exactly the limit: %q, %v", b, err)
	}
}

// replaced breaks off the first reads because the object was replaced.
type replaced struct {
	answering
	breaks *int
}

func (r replaced) Get(context.Context, string) (io.ReadCloser, store.Info, error) {
	if *r.breaks--; *r.breaks >= 0 {
		return io.NopCloser(io.MultiReader(strings.NewReader("ol"), failing{store.ErrCondition})), store.Info{Size: 3}, nil
	}
	return io.NopCloser(strings.NewReader("new")), store.Info{Size: 3}, nil
}

func TestReadBeginsAgainWhenTheObjectWasReplaced(t *testing.T) {
	breaks := 2
	if b, _, err := store.Read(context.Background(), replaced{breaks: &breaks}, "k", 3); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	breaks = 1 << 30
	if b, _, err := store.Read(context.Background(), replaced{breaks: &breaks}, "k", 3); !errors.Is(err, store.ErrCondition) {
		t.Errorf("for ever: %q, %v", b, err)
	}
}

type failing struct{ err error }

func (e failing) Read([]byte) (int, error) { return 0, e.err }

package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// liar is a source whose content does not have its stated length.
type liar struct {
	data string
	size int64
}

func (l liar) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(l.data)), nil }
func (l liar) Size() int64                  { return l.size }

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>11)
	}
	return b
}

func TestPutStoresWhatWasGivenAtEverySizeAndTellsItsMD5(t *testing.T) {
	for _, tls := range []bool{false, true} {
		f := newFront(t, tls)
		c := f.client()
		for _, n := range []int{0, 1, expectOver, expectOver + 1, chunkSize, chunkSize + 1, smallLimit, smallLimit + 1, 5*chunkSize*maxChunks + 17} {
			for _, send := range []bool{false, true} {
				data := pattern(n)
				info, err := c.Put(t.Context(), "/bob/stor/o", Bytes(data), PutOptions{SendMD5: send})
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				sum := md5.Sum(data)
				o := f.objects["/bob/stor/o"]
				if !bytes.Equal(o.data, data) || info.ETag != o.etag || info.Size != int64(n) || !bytes.Equal(info.MD5, sum[:]) || info.MTime.IsZero() {
					t.Errorf("tls %v, %d bytes: stored %d, info %+v", tls, n, len(o.data), info)
				}
				f.mu.Lock()
				h := f.heads[len(f.heads)-1]
				f.mu.Unlock()
				if got, want := h.Get("Content-Md5") != "", send && n <= smallLimit; got != want {
					t.Errorf("%d bytes, SendMD5 %v: Content-Md5 sent: %v", n, send, got)
				}
				if got, want := h.Get("Expect") != "", n > expectOver; got != want {
					t.Errorf("%d bytes: Expect sent: %v", n, got)
				}
			}
		}
	}
}

func TestASourceOfAnotherLengthThanStatedStoresNothing(t *testing.T) {
	f := newFront(t, true)
	c := f.client()
	for _, size := range []int{10, expectOver + 10, 2*smallLimit + 5} {
		for _, off := range []int{-1, 1, 100 << 10} {
			src := liar{string(pattern(size)), int64(size + off)}
			if src.size < 0 {
				continue
			}
			_, err := c.Put(t.Context(), "/bob/stor/o", src, PutOptions{If: Absent()})
			if !errors.Is(err, ErrSource) || errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("%d bytes, stated %d: %v", size, src.size, err)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.objects) != 0 {
		t.Errorf("stored %d objects", len(f.objects))
	}
}

func TestAMissingParentIsToldBeforeTheBodyIsSent(t *testing.T) {
	f := newFront(t, true)
	var read atomic.Int64
	c := f.client()
	_, err := c.Put(t.Context(), "/bob/stor/a/b/o", counting{pattern(8 << 20), &read}, PutOptions{})
	if !errors.Is(err, ErrParentMissing) || !errors.Is(err, ErrNotFound) {
		t.Fatalf("error %v", err)
	}
	if n := read.Load(); n > (maxChunks+1)*chunkSize {
		t.Errorf("%d bytes were read of a source that need not be sent", n)
	}
}

// counting counts what is read of it.
type counting struct {
	data []byte
	n    *atomic.Int64
}

func (s counting) Size() int64 { return int64(len(s.data)) }
func (s counting) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.TeeReader(bytes.NewReader(s.data), counterWriter{s.n})), nil
}

type counterWriter struct{ n *atomic.Int64 }

func (w counterWriter) Write(p []byte) (int, error) { w.n.Add(int64(len(p))); return len(p), nil }

func TestParentsAreMadeOnceForManyConcurrentUploads(t *testing.T) {
	f := newFront(t, true)
	c := f.client()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if _, err := c.Put(t.Context(), fmt.Sprintf("/bob/stor/a/b/c/o%d", i), Bytes("x"), PutOptions{Parents: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var mkdirs []string
	for _, r := range f.requests() {
		if !strings.Contains(r, "/c/o") {
			mkdirs = append(mkdirs, r)
		}
	}
	up, down := []string{"PUT /bob/stor/a/b/c", "PUT /bob/stor/a/b", "PUT /bob/stor/a"}, []string{"PUT /bob/stor/a/b", "PUT /bob/stor/a/b/c"}
	if want := append(up, down...); !slices.Equal(mkdirs, want) {
		t.Errorf("directories made by %q", mkdirs)
	}
	// The next level down costs one mkdir, a known directory none.
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"/bob/stor/a/b/c/more", []string{"PUT /bob/stor/a/b/c/more"}},
		{"/bob/stor/a/b/d/o", []string{"PUT /bob/stor/a/b/d/o", "PUT /bob/stor/a/b/d", "PUT /bob/stor/a/b/d/o"}},
	} {
		if _, err := c.Put(t.Context(), tc.path, Bytes("x"), PutOptions{Parents: true}); err != nil {
			t.Error(err)
		}
		if got := f.requests(); !slices.Equal(got, tc.want) {
			t.Errorf("requests %q", got)
		}
	}
}

func TestAKnownDirectoryThatVanishedIsMadeAgain(t *testing.T) {
	f := newFront(t, false)
	c := f.client()
	if err := c.MkdirAll(t.Context(), "/bob/stor/a/b/c"); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.dirs = map[string]bool{"/bob/stor": true}
	f.mu.Unlock()
	if _, err := c.Put(t.Context(), "/bob/stor/a/b/c/o", Bytes("x"), PutOptions{Parents: true, If: Absent()}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.dirs = map[string]bool{"/bob/stor": true}
	f.mu.Unlock()
	if err := c.MkdirAll(t.Context(), "/bob/stor/a/b/c/d"); err != nil {
		t.Error(err)
	}
}

func TestAWrongComputedMD5IsFound(t *testing.T) {
	for _, n := range []int{4, 2 << 20} {
		for _, cond := range []Condition{{}, Absent()} {
			f := newFront(t, false)
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Etag", "11111111-2222-3333-4444-555555555555")
				w.Header().Set("Computed-Md5", formatMD5(make([]byte, 16)))
				w.WriteHeader(204)
				return true
			}
			info, err := f.client().Put(t.Context(), "/bob/stor/o", Bytes(pattern(n)), PutOptions{If: cond})
			if !errors.Is(err, ErrChecksum) || info.ETag == "" {
				t.Errorf("%d bytes: %v, %v", n, info.ETag, err)
			}
			want := 4
			if !cond.None() {
				want = 1
			}
			if got := len(f.requests()); got != want {
				t.Errorf("%d bytes, condition %v: %d attempts", n, cond, got)
			}
		}
	}
}

func TestWithoutComputedMD5TheObjectIsLookedAt(t *testing.T) {
	f := newFront(t, false)
	f.noMD5 = true
	c := f.client(func(cfg *Config) { cfg.Parallel = 1 })
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes(pattern(2<<20)), PutOptions{}); err != nil {
		t.Error(err)
	}
	if got := f.requests(); !cmp.Equal(got, []string{"PUT /bob/stor/o", "HEAD /bob/stor/o"}) {
		t.Errorf("requests %q", got)
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("announced"), PutOptions{SendMD5: true}); err != nil {
		t.Error(err)
	}
	if got := f.requests(); len(got) != 1 {
		t.Errorf("an announced MD5 was checked by the service, yet: %q", got)
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "HEAD" {
			w.Header().Set("Etag", "someone-elses")
			return true
		}
		return false
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{If: Match(f.objects["/bob/stor/o"].etag)}); !errors.Is(err, ErrChecksum) {
		t.Errorf("replaced before it was verified: %v", err)
	}
}

func TestAnAnswerBeforeTheContentIsNotSuccess(t *testing.T) {
	f := newFront(t, false)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(204); return true }
	_, err := f.client().Put(t.Context(), "/bob/stor/o", Bytes(pattern(4<<20)), PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "before the content was sent") {
		t.Errorf("error %v", err)
	}
}

func TestContextEndsWaitsAndTransfers(t *testing.T) {
	f := newFront(t, false)
	release := make(chan struct{})
	f.fault = func(w http.ResponseWriter, r *http.Request) bool { io.Copy(io.Discard, r.Body); <-release; return true }
	defer close(release)
	c := f.client()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := c.Put(ctx, "/bob/stor/o", Bytes("x"), PutOptions{If: Absent()})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnknownOutcome) || time.Since(start) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	f2 := newFront(t, false)
	f2.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", "60")
		refuse(w, 503, "ThrottledError", "x")
		return true
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start = time.Now()
	if _, err = f2.client().Head(ctx, "/bob/stor/o"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) || time.Since(start) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestRetryAfterIsHonouredUpToALimit(t *testing.T) {
	f := newFront(t, false)
	f.put("/bob/stor/o", []byte("x"))
	var n atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(429)
		return true
	}
	start := time.Now()
	if _, err := f.client().Head(t.Context(), "/bob/stor/o"); err != nil || time.Since(start) < time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		n.Add(1)
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(503)
		return true
	}
	n.Store(0)
	if _, err := f.client().Head(t.Context(), "/bob/stor/o"); !errors.Is(err, ErrUnavailable) || n.Load() != 1 {
		t.Errorf("%d attempts: %v", n.Load(), err)
	}
}

func TestMetadataCopiesAndTypeArriveAndComeBack(t *testing.T) {
	f := newFront(t, false)
	c := f.client(func(cfg *Config) { cfg.Roles = []string{"ops", "read"} })
	_, err := c.Put(t.Context(), "~~/stor/a b+é%?#\n.txt", Bytes("x"), PutOptions{ContentType: "text/x", Copies: 3, Metadata: map[string]string{"m-foo": "bar"}})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	h, line := f.heads[0], f.log[0]
	f.mu.Unlock()
	if line != "PUT /bob/stor/a%20b%2B%C3%A9%25%3F%23%0A.txt" || h.Get("Role") != "ops,read" || h.Get("Durability-Level") != "3" {
		t.Errorf("%s %v", line, h)
	}
	info, err := c.Head(t.Context(), "/bob/stor/a b+é%?#\n.txt")
	if err != nil || info.ContentType != "text/x" || info.Metadata["m-foo"] != "bar" || info.Durability != 2 || info.Size != 1 || info.IsDir() {
		t.Errorf("%+v, %v", info, err)
	}
	if d, err := c.Head(t.Context(), "/bob/stor"); err != nil || !d.IsDir() || d.ResultSetSize != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{Metadata: map[string]string{"if-match": "*"}}); err == nil {
		t.Error("a header that is no metadata was accepted")
	}
	for _, p := range []string{"", "stor/x", "/bob//x", "/bob/stor/../x", "/bob/./x", "/bob/a\x00b", "/"} {
		if _, err := c.Head(t.Context(), p); !errors.Is(err, ErrBadPath) {
			t.Errorf("path %q: %v", p, err)
		}
	}
}

package integrity

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tritonops/tritonops/pkg/instance"
)

const (
	uuidA = "a1b2c3d4-0000-4000-8000-000000000001"
	uuidB = "b1b2c3d4-0000-4000-8000-000000000002"
	uuidC = "c1b2c3d4-0000-4000-8000-000000000003"
)

// describe is the manifest entry that fits content.
func describe(content []byte, compression string) instance.File {
	s, m := sha1.Sum(content), md5.Sum(content)
	return instance.File{
		SHA1: hex.EncodeToString(s[:]), ContentMD5: base64.StdEncoding.EncodeToString(m[:]),
		Size: int64(len(content)), Compression: compression, Stor: Local,
	}
}

func newInstance(t *testing.T) *instance.Instance {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "data/imgapi/etc/imgapi.config.json"), []byte(`{}`))
	i, err := instance.Load(root, "")
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func target(uuid string, want instance.File) Target {
	return Target{UUID: uuid, Name: "base", Version: "1.0", File: "file0", Want: want}
}

func TestEveryKindOfDamageIsFound(t *testing.T) {
	good := gz(t, strings.Repeat("zfs stream ", 50_000))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	broken := describe(flipped, "gzip") // uploaded broken: the hashes are right
	wrongMD5 := describe(good, "gzip")
	wrongMD5.ContentMD5 = "AAAAAAAAAAAAAAAAAAAAAA=="
	noSHA1 := describe(good, "gzip")
	noSHA1.SHA1 = ""
	for _, tt := range []struct {
		name    string
		content []byte // nil: no file
		want    instance.File
		state   State
		reason  string
		warning string
	}{
		{"a good file", good, describe(good, "gzip"), OK, "", ""},
		{"a missing file", nil, describe(good, "gzip"), Missing, "no such file", ""},
		{"a short file", good[:100], describe(good, "gzip"), Corrupt, "size is 100 bytes, the manifest says", ""},
		{"a flipped bit", flipped, describe(good, "gzip"), Corrupt, "sha1 is ", ""},
		{"uploaded broken", flipped, broken, Corrupt, "invalid gzip archive", ""},
		{"a wrong content MD5", good, wrongMD5, Corrupt, "although the file", ""},
		{"no sha1 in the manifest", good, noSHA1, OK, "", "no sha1 to compare with"}, // and is not remembered
		{"declared bzip2, is gzip", good, describe(good, "bzip2"), OK, "", "the manifest says bzip2, but the file begins like gzip"},
		{"declared none, is gzip", good, describe(good, "none"), OK, "", "the manifest says none, but the file begins like gzip"},
		{"declared gzip, is text", []byte("plain text"), describe([]byte("plain text"), "gzip"), OK, "", "does not begin like one"},
		{"none and text", []byte("plain text"), describe([]byte("plain text"), "none"), OK, "", ""},
		{"one byte", []byte("x"), describe([]byte("x"), "none"), OK, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newInstance(t)
			if tt.content != nil {
				write(t, i.FilePath(uuidA, "file0"), tt.content)
			}
			c := &Checker{Stores: map[string]Files{Local: LocalFiles{i}}, Cache: NewCache()}
			r, err := c.Check(t.Context(), target(uuidA, tt.want))
			if err != nil || r.State != tt.state {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := strings.Join(r.Reasons, "\n"); !strings.Contains(got, tt.reason) || (got == "") != (tt.reason == "") {
				t.Errorf("reasons %q, want %q", got, tt.reason)
			}
			if got := strings.Join(r.Warnings, "\n"); !strings.Contains(got, tt.warning) || (got == "") != (tt.warning == "") {
				t.Errorf("warnings %q, want %q", got, tt.warning)
			}
			if (c.Cache.Len() == 1) != (tt.state == OK && tt.want.SHA1 != "") {
				t.Errorf("%d files in the cache", c.Cache.Len())
			}
		})
	}
}

func TestWhatWasFoundGoodIsNotReadAgainUntilItChanges(t *testing.T) {
	i := newInstance(t)
	path := i.FilePath(uuidA, "file0")
	content := []byte("content of the image")
	write(t, path, content)
	counter := &counting{Files: LocalFiles{i}}
	cachePath := filepath.Join(i.CacheDir(), "check-files.json")
	check := func(c *Checker, want instance.File) Result {
		t.Helper()
		cache, err := LoadCache(cachePath)
		if err != nil {
			t.Fatal(err)
		}
		c.Stores, c.Cache = map[string]Files{Local: counter}, cache
		r, err := c.Check(t.Context(), target(uuidA, want))
		if err != nil {
			t.Fatal(err)
		}
		if err := cache.Save(cachePath); err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := describe(content, "none")
	steps := []struct {
		name   string
		do     func()
		c      *Checker
		want   instance.File
		opened int64
		state  State
		cached bool
	}{
		{"a simple check leaves no trace", func() {}, &Checker{Simple: true}, want, 0, OK, false},
		{"the first time it is read", func() {}, &Checker{}, want, 1, OK, false},
		{"then it is known", func() {}, &Checker{}, want, 1, OK, true},
		{"force reads it", func() {}, &Checker{Force: true}, want, 2, OK, false},
		{"another sha1 in the manifest", func() {}, &Checker{}, describe([]byte("CONTENT of the image"), "none"), 3, Corrupt, false},
		{"a failure is forgotten", func() {}, &Checker{}, want, 4, OK, false},
		{"same bytes written again", func() { time.Sleep(10 * time.Millisecond); write(t, path, content) }, &Checker{}, want, 5, OK, false},
		{"other bytes of the same size", func() { time.Sleep(10 * time.Millisecond); write(t, path, []byte("CONTENT of the image")) }, &Checker{}, want, 6, Corrupt, false},
	}
	for _, s := range steps {
		s.do()
		r := check(s.c, s.want)
		if r.State != s.state || r.Cached != s.cached || counter.opened.Load() != s.opened {
			t.Errorf("%s: %s cached=%v opened=%d (want %s %v %d): %q", s.name, r.State, r.Cached, counter.opened.Load(), s.state, s.cached, s.opened, r.Reasons)
		}
	}
}

// counting counts how often files are opened.
type counting struct {
	Files
	opened atomic.Int64
}

func (c *counting) Open(ctx context.Context, uuid, name string) (io.ReadCloser, Stat, error) {
	c.opened.Add(1)
	return c.Files.Open(ctx, uuid, name)
}

// memory keeps files by uuid, with errors to order.
type memory map[string]func() (io.Reader, Stat, error)

func (m memory) Stat(ctx context.Context, uuid, _ string) (Stat, error) {
	if m[uuid] == nil {
		return Stat{}, fs.ErrNotExist
	}
	_, st, err := m[uuid]()
	return st, err
}

func (m memory) Open(ctx context.Context, uuid, name string) (io.ReadCloser, Stat, error) {
	if m[uuid] == nil {
		return nil, Stat{}, fs.ErrNotExist
	}
	r, st, err := m[uuid]()
	return io.NopCloser(r), st, err
}

func of(b []byte) func() (io.Reader, Stat, error) {
	return func() (io.Reader, Stat, error) { return bytes.NewReader(b), Stat{int64(len(b)), "etag"}, nil }
}

func TestTroubleOfTheStoreIsNotCalledCorruption(t *testing.T) {
	content := gz(t, strings.Repeat("x", 1_000_000))
	cut := func() (io.Reader, Stat, error) {
		return io.MultiReader(bytes.NewReader(content[:10]), brokenReader{io.ErrUnexpectedEOF}), Stat{int64(len(content)), "e"}, nil
	}
	down := func() (io.Reader, Stat, error) { return nil, Stat{}, errors.New("connection refused") }
	c := &Checker{Stores: map[string]Files{Manta: memory{uuidA: cut, uuidB: down, uuidC: of(content)}}}
	want := describe(content, "gzip")
	want.Stor = Manta
	for uuid, text := range map[string]string{uuidA: "unexpected EOF", uuidB: "connection refused"} {
		r, err := c.Check(t.Context(), target(uuid, want))
		if err != nil || r.State != Unreadable || !strings.Contains(r.Reasons[0], text) {
			t.Errorf("%s: %+v %v", uuid, r, err)
		}
	}
	if r, _ := c.Check(t.Context(), target(uuidC, want)); r.State != OK {
		t.Errorf("%+v", r)
	}
	want.Stor = "s3"
	if r, _ := c.Check(t.Context(), target(uuidC, want)); r.State != Unreadable || r.Reasons[0] != `stor is "s3", which is not reachable from here` {
		t.Errorf("%+v", r)
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

func TestAFileReplacedMeanwhileIsJudgedByItsNewManifest(t *testing.T) {
	old, now := describe([]byte("old"), "none"), describe([]byte("new"), "none")
	c := &Checker{Stores: map[string]Files{Local: memory{uuidA: of([]byte("new"))}}}
	r, err := c.Check(t.Context(), target(uuidA, old))
	if err != nil || r.State != Corrupt {
		t.Fatalf("without Reread: %+v %v", r, err)
	}
	c.Reread = func(context.Context, Target) (instance.File, bool, error) { return now, true, nil }
	if r, _ = c.Check(t.Context(), target(uuidA, old)); r.State != OK || r.SHA1 != now.SHA1 {
		t.Errorf("replaced: %+v", r)
	}
	c.Reread = func(context.Context, Target) (instance.File, bool, error) { return instance.File{}, false, nil }
	if r, _ = c.Check(t.Context(), target(uuidA, old)); r.State != OK || len(r.Warnings) != 1 {
		t.Errorf("deleted: %+v", r)
	}
	c.Reread = func(context.Context, Target) (instance.File, bool, error) {
		return instance.File{}, false, errors.New("torn")
	}
	if r, _ = c.Check(t.Context(), target(uuidA, old)); r.State != Corrupt {
		t.Errorf("manifest unreadable: %+v", r)
	}
}

func TestRunReportsInOrderAndBoundsParallelism(t *testing.T) {
	const n, parallel = 300, 4
	var active, peak atomic.Int64
	files := memory{}
	var list []Target
	var total int64
	for k := range n {
		uuid := fmt.Sprintf("%08x-0000-4000-8000-000000000000", k)
		content := []byte(uuid)
		files[uuid] = func() (io.Reader, Stat, error) {
			now := active.Add(1)
			for p := peak.Load(); now > p && !peak.CompareAndSwap(p, now); p = peak.Load() {
			}
			time.Sleep(time.Duration(k%3) * time.Millisecond)
			active.Add(-1)
			return bytes.NewReader(content), Stat{int64(len(content)), "e"}, nil
		}
		want := describe(content, "none")
		if k%100 == 99 {
			want.SHA1 = strings.Repeat("0", 40)
		}
		list = append(list, target(uuid, want))
		total += want.Size
	}
	p := &progress{}
	c := &Checker{Stores: map[string]Files{Local: files}, Parallel: parallel, Progress: p}
	var got []string
	sum, err := c.Run(t.Context(), seq(list, nil), func(r Result) { got = append(got, r.UUID) })
	if err != nil {
		t.Fatal(err)
	}
	want := Summary{Checked: n, OK: n - 3, Corrupt: 3, Bytes: total}
	if d := cmp.Diff(want, sum); d != "" || sum.Faults() != 3 {
		t.Error(d)
	}
	for k, uuid := range got {
		if uuid != list[k].UUID {
			t.Fatalf("report %d is about %s", k, uuid)
		}
	}
	if peak.Load() > parallel || peak.Load() < 2 {
		t.Errorf("%d at a time, asked for %d", peak.Load(), parallel)
	}
	if p.sum != total {
		t.Errorf("progress counted %d of %d bytes", p.sum, total)
	}
}

func TestRunEndsWithTheErrorOfTheListOrTheContext(t *testing.T) {
	files := memory{uuidA: of([]byte("x"))}
	c := &Checker{Stores: map[string]Files{Local: files}, Parallel: 3}
	one := target(uuidA, describe([]byte("x"), "none"))
	boom := errors.New("boom")
	sum, err := c.Run(t.Context(), seq([]Target{one, one}, boom), func(Result) {})
	if !errors.Is(err, boom) || sum.OK != 2 {
		t.Errorf("%+v %v", sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	endless := func(yield func(Target, error) bool) {
		for yield(one, nil) {
		}
	}
	n := 0
	sum, err = c.Run(ctx, endless, func(Result) {
		if n++; n == 10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || sum.OK < 10 {
		t.Errorf("%+v %v", sum, err)
	}
}

func seq(list []Target, end error) iter.Seq2[Target, error] {
	return func(yield func(Target, error) bool) {
		for _, t := range list {
			if !yield(t, nil) {
				return
			}
		}
		if end != nil {
			yield(Target{}, end)
		}
	}
}

type progress struct {
	mu  sync.Mutex
	sum int64
}

func (p *progress) Phase(string, int64, string) {}
func (p *progress) Note(string)                 {}
func (p *progress) Add(n int64) {
	p.mu.Lock()
	p.sum += n
	p.mu.Unlock()
}

func TestTheLeftoverThatIsTheMissingFileIsFound(t *testing.T) {
	i := newInstance(t)
	content := []byte("the image")
	want := describe(content, "none")
	if n, err := Leftover(t.Context(), i, uuidA, want); n != "" || err != nil {
		t.Errorf("no directory: %q %v", n, err)
	}
	dir := filepath.Dir(i.FilePath(uuidA, "file0"))
	write(t, filepath.Join(dir, "file0.11111111-0000-4000-8000-000000000001"), []byte("the im"))
	write(t, filepath.Join(dir, "file0.22222222-0000-4000-8000-000000000002"), []byte("THE IMAGE"))
	if n, err := Leftover(t.Context(), i, uuidA, want); n != "" || err != nil {
		t.Errorf("only others: %q %v", n, err)
	}
	write(t, filepath.Join(dir, "file0.33333333-0000-4000-8000-000000000003"), content)
	if n, err := Leftover(t.Context(), i, uuidA, want); n != "file0.33333333-0000-4000-8000-000000000003" || err != nil {
		t.Errorf("%q %v", n, err)
	}
}

func TestDependentsAreOrderedForDeletion(t *testing.T) {
	var g Graph
	for _, e := range [][2]string{
		{"base", ""}, {"a", "base"}, {"b", "base"}, {"a1", "a"}, {"a2", "a"}, {"a11", "a1"}, {"other", ""},
		{"x", "y"}, {"y", "z"}, {"z", "x"}, {"tail", "y"}, {"self", "self"},
	} {
		g.Add(e[0], e[1])
	}
	for _, tt := range []struct{ uuid, order, heads string }{
		{"base", "a11 a2 a1 b a base", "b a2 a11"},
		{"a1", "a11 a1", "a11"},
		{"b", "b", "b"},
		{"other", "other", "other"},
		{"unknown", "unknown", "unknown"},
		{"self", "self", "self"},
		{"x", "tail y z x", "tail"}, // x is made from y, y from z, z from x
	} {
		order, heads := g.Dependents(tt.uuid)
		if strings.Join(order, " ") != tt.order || strings.Join(heads, " ") != tt.heads {
			t.Errorf("%s: order %q, heads %q", tt.uuid, order, heads)
		}
	}
}

func TestTargetsOfAManifest(t *testing.T) {
	m, err := instance.ParseManifest([]byte(`{"uuid":"` + uuidA + `","name":"n","version":"1","files":[{"size":1,"sha1":"x","stor":"manta"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Target{{UUID: uuidA, Name: "n", Version: "1", File: "file0", Want: instance.File{Size: 1, SHA1: "x", Stor: "manta"}}}
	if d := cmp.Diff(want, Targets(m)); d != "" {
		t.Error(d)
	}
}

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/mantastore"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/manta"
	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

// twist changes a listing, given as its lines.
type twist struct {
	name  string
	lines func([]string) []string
	raw   string // bytes put behind them
}

// named puts an object with a name of an attacker's choice into a listing.
func named(name string) twist {
	b, err := json.Marshal(name)
	if err != nil {
		panic(err)
	}
	line := fmt.Sprintf(`{"name":%s,"type":"object","etag":"e","size":5,"contentMD5":"XUFAKrxLKna5cZ2REBfFkg==","mtime":"2026-11-22T18:35:21.000Z"}`, b)
	return twist{name: fmt.Sprintf("%.20q", name), lines: func(lines []string) []string {
		lines = append(lines, line)
		slices.SortFunc(lines, func(a, b string) int { return cmp.Compare(nameOf(a), nameOf(b)) })
		return lines
	}}
}

func nameOf(line string) string {
	var v struct{ Name string }
	if json.Unmarshal([]byte(line), &v) != nil {
		return line
	}
	return v.Name
}

func twists() []twist {
	return []twist{
		named(".."), named("../../../escape"), named("/tmp/escape"), named("a\x00escape"), named("escape\nline"), named("\x1b[2Jescape"),
		named(strings.Repeat("z", 300)), named(`escape\..\x`), named(""),
		{name: "a line cut short", raw: `{"name":"zzzz","type":"object","si`},
		{name: "not JSON", raw: "<html>zzz</html>\n"},
	}
}

// twistedManta passes everything on to the lab's Manta and changes the listing of
// one directory on the way back.
type twistedManta struct {
	url string
	at  atomic.Pointer[struct {
		dir string
		twist
	}]
	met atomic.Int32
}

func newTwistedManta(t *testing.T, r *rig) *twistedManta {
	t.Helper()
	target, err := url.Parse(r.lab.State().Manta.URL)
	r.must(err)
	m := &twistedManta{}
	s := httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true},
		ModifyResponse: m.modify,
	})
	t.Cleanup(s.Close)
	m.url = s.URL
	return m
}

func (m *twistedManta) modify(res *http.Response) error {
	at := m.at.Load()
	if at == nil || res.StatusCode != http.StatusOK || res.Request.Method != http.MethodGet || !strings.HasSuffix(res.Request.URL.Path, at.dir) ||
		!strings.Contains(res.Header.Get("Content-Type"), "directory") {
		return nil
	}
	m.met.Add(1)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var lines []string
	for l := range strings.Lines(string(b)) {
		lines = append(lines, strings.TrimSuffix(l, "\n"))
	}
	n, err := strconv.Atoi(res.Header.Get("Result-Set-Size"))
	if err != nil {
		return err
	}
	if at.lines != nil {
		lines = at.lines(lines)
		n++
	}
	text := at.raw
	if len(lines) > 0 {
		text = strings.Join(lines, "\n") + "\n" + at.raw
	}
	res.Header.Set("Result-Set-Size", strconv.Itoa(n))
	res.Header.Set("Content-Length", strconv.Itoa(len(text)))
	res.ContentLength = int64(len(text))
	res.Body = io.NopCloser(strings.NewReader(text))
	return nil
}

// Names in a listing are an attacker's who has the store. None of them becomes a
// path, whatever lists it, and what is said of it cannot forge a line.
func TestHostileNamesInListings(t *testing.T) {
	r := newRig(t, 3).begin()
	m := newTwistedManta(t, r)
	with := []string{"--manta-url", m.url, "--manta-insecure"}
	into := filepath.Join(filepath.Dir(r.data), "into")
	world := r.world()
	tries := [][]string{
		{"imgapi", "backup", "run", "--verify"},
		{"imgapi", "backup", "verify", "--deep"},
		{"imgapi", "restore", "--yes", "--into", into},
		{"imgapi", "backup", "copy", "--to", r.copyURL()},
		{"imgapi", "backup", "list"},
		{"imgapi", "backup", "prune", "--keep-last", "1", "--yes"},
	}
	dirs := []string{"/backup/log", "/backup/log/00000000", "/backup/base", "/backup/manifests", "/backup/images", "/backup/history"}
	bad := 0
	for i, dir := range dirs {
		for j, tw := range twists() {
			args := tries[(i+j)%len(tries)]
			t.Run(fmt.Sprintf("%s in %s by %s", tw.name, dir, strings.Join(args[1:min(3, len(args))], " ")), func(t *testing.T) {
				r := r.in(t)
				m.met.Store(0)
				m.at.Store(&struct {
					dir string
					twist
				}{dir, tw})
				code, out := r.try(append(slices.Clone(args), with...)...)
				t.Logf("%d listings, exit %d\n%s", m.met.Load(), code, out)
				if m.met.Load() > 0 {
					bad++
					if code == 0 || !strings.Contains(out, strings.TrimPrefix(dir, "/")) {
						t.Errorf("exit %d, or the directory is not named", code)
					}
				}
				r.ours()
				r.must(os.RemoveAll(into))
				r.must(os.RemoveAll(r.copyDir()))
				m.at.Store(nil)
				r.abandon()
			})
		}
	}
	m.at.Store(nil)
	if bad < 30 {
		t.Errorf("only %d listings were hostile", bad)
	}
	r.same("around", r.world(), world)
	r.run([]int{0}, append(tries[0], with...)...) // and through an honest proxy all is well
	r.deep()
}

// A backup of the stock scripts is known from its listings alone.
func TestHostileNamesInABackupWithoutALog(t *testing.T) {
	r := newRig(t, 3).begin()
	want := r.tree(r.data)
	st := r.store()
	for _, dir := range []string{"backup/log/00000000", "backup/base"} {
		for info, err := range st.List(context.Background(), dir) {
			r.must(err)
			r.must(st.Delete(context.Background(), info.Key, store.Condition{}))
		}
	}
	r.must(st.Delete(context.Background(), "backup/format.json", store.Condition{}))
	m := newTwistedManta(t, r)
	into := filepath.Join(filepath.Dir(r.data), "into")
	args := []string{"imgapi", "restore", "--yes", "--into", into, "--manta-url", m.url, "--manta-insecure"}
	world := r.world()
	for _, dir := range []string{"/backup/manifests", "/backup/images"} {
		for _, tw := range twists() {
			t.Run(tw.name+" in "+dir, func(t *testing.T) {
				r := r.in(t)
				m.at.Store(&struct {
					dir string
					twist
				}{dir, tw})
				code, out := r.try(args...)
				t.Logf("exit %d\n%s", code, out)
				if code == 0 {
					t.Errorf("exit %d", code)
				}
				r.ours()
				r.must(os.RemoveAll(into))
				m.at.Store(nil)
				r.abandon()
			})
		}
	}
	m.at.Store(nil)
	r.same("around", r.world(), world)

	// A manifest that no server has: not restored, named, and nothing else is lost.
	huge := "backup/manifests/01b2c898-945f-11e1-a523-af1afbe22822.raw"
	_, err := st.Put(context.Background(), huge, zeros(100<<20), store.Condition{})
	r.must(err)
	out := r.run([]int{3}, args...)
	if !strings.Contains(out, "01b2c898-945f-11e1-a523-af1afbe22822") {
		t.Errorf("not named:\n%s", out)
	}
	got := r.tree(into)
	delete(got, strings.TrimPrefix(huge, "backup/"))
	r.same("restored", got, want)
}

// abandon ends what a failed restore into a directory left unfinished.
func (r *rig) abandon() {
	r.t.Helper()
	if next := r.goOn(); next != nil {
		r.run([]int{0}, "runs", "undo", next[2], "--yes")
	}
}

// zeros is content of so many zero bytes.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }
func (z zeros) Open() (io.ReadCloser, error) {
	f, err := os.Open("/dev/zero")
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, int64(z)), f}, nil
}

// store is the instance's directory in Manta, for the operator.
func (r *rig) store() store.Store {
	r.t.Helper()
	s := r.lab.State()
	key, err := sshkey.Load(s.Operator.Key, nil)
	r.must(err)
	signer, err := manta.NewSigner(key, s.Account, "")
	r.must(err)
	c, err := manta.New(manta.Config{URL: s.Manta.URL, Account: s.Account, Signer: signer, Insecure: true})
	r.must(err)
	st, err := mantastore.New(c, "/"+s.Account+"/stor/"+r.name)
	r.must(err)
	return st
}

// Whatever stands in the place of the log's objects, it is named, nothing is
// published over it or lost by it, and there is a way on.
func TestADamagedLog(t *testing.T) {
	r := newRig(t, 3).begin()
	st, ctx := r.store(), context.Background()
	record, first, base, format := "backup/log/00000000/000000000003.tar.gz", "backup/log/00000000/000000000001.tar.gz", "backup/base/000000000001.tar.gz", "backup/format.json"
	want := r.tree(r.data)
	newer := archive(map[string]string{"record.json": `{"format":"tritonops-backup","version":2,"kind":"commit","seq":3,"shape":[]}`})
	for _, tc := range []struct {
		name, key string
		bad       func(good []byte) []byte
		restores  bool     // all the same
		runs      []string // the way on, "" for none but another release
		says      string
	}{
		{"newest record cut short", record, half, false, []string{"--full"}, "damaged"},
		{"newest record is garbage", record, garbage, false, []string{"--full"}, "damaged"},
		{"newest record is empty", record, func([]byte) []byte { return nil }, false, []string{"--full"}, "damaged"},
		{"newest record with a path outside", record, func([]byte) []byte {
			return archive(map[string]string{"record.json": `{"format":"tritonops-backup","version":1,"kind":"commit","seq":3,"prev":""}`,
				"entries-000001.jsonl": `{"path":"manifests/../../../escape","size":1,"md5":"","sha256":""}`, "manifests/../../../escape": "x"})
		}, false, []string{"--full", "--take-over"}, "damaged"},
		{"newest record of another number", record, func([]byte) []byte { return r.read(st, first) }, false, []string{"--full"}, "damaged"},
		{"newest record of a newer version", record, func([]byte) []byte { return newer }, false, nil, "newer"},
		{"base cut short", base, half, true, []string{}, ""},
		{"base is garbage", base, garbage, true, []string{}, ""},
		{"first record is garbage", first, garbage, true, []string{}, ""}, // the base stands for it
		{"format is garbage", format, garbage, false, nil, "format.json"},
		{"format cut short", format, half, false, nil, "format.json"},
		{"format of another program", format, func([]byte) []byte { return []byte(`{"format":"tar","version":1}`) }, false, nil, "format.json"},
		{"format of a newer version", format, func([]byte) []byte { return []byte(`{"format":"tritonops-backup","version":9,"x":[]}`) }, false, nil, "newer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := r.in(t)
			good := r.read(st, tc.key)
			_, err := st.Put(ctx, tc.key, store.Bytes(tc.bad(good)), store.Condition{})
			r.must(err)
			world := r.world()
			into := filepath.Join(filepath.Dir(r.data), "into")
			code, out := r.try("imgapi", "restore", "--yes", "--into", into)
			t.Logf("restore: exit %d\n%s", code, out)
			if tc.restores != (code == 0) || !strings.Contains(out, tc.says) {
				t.Errorf("restore: exit %d, or not %q\n%s", code, tc.says, out)
			}
			if code == 0 {
				r.same("restored", r.tree(into), want)
			}
			r.must(os.RemoveAll(into))
			r.abandon()
			code, out = r.try("imgapi", "backup", "verify", "--deep")
			t.Logf("verify: exit %d\n%s", code, out)
			if code == 0 && tc.key != first || !strings.Contains(out, tc.says) {
				t.Errorf("verify: exit %d\n%s", code, out)
			}
			code, out = r.try("imgapi", "backup", "run")
			t.Logf("run: exit %d\n%s", code, out)
			if (code == 0) != tc.restores || code == int(fail.Stuck) {
				t.Errorf("run: exit %d\n%s", code, out)
			}
			if tc.runs == nil && code != int(fail.Refused) {
				t.Errorf("run: exit %d, want a refusal\n%s", code, out)
			}
			r.same("around", r.world(), world)
			r.ours()
			if tc.runs != nil { // the way on from the damage itself
				if len(tc.runs) > 0 && !strings.Contains(out, tc.runs[0]) {
					t.Errorf("the way on is not told\n%s", out)
				}
				out = r.run([]int{0}, append([]string{"imgapi", "backup", "run"}, tc.runs...)...)
				t.Logf("run %s: %s", tc.runs, out)
				r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
				r.same("restored from after the damage", r.tree(into), want)
				r.must(os.RemoveAll(into))
				r.run([]int{0}, "imgapi", "backup", "run")
			}
			r.replay(st, tc.key, good, len(tc.runs) > 0)
		})
	}
}

// replay puts the good object back; where a run has gone on behind it, the log
// goes on and only the newest states count.
func (r *rig) replay(st store.Store, key string, good []byte, wentOn bool) {
	r.t.Helper()
	ctx := context.Background()
	_, err := st.Put(ctx, key, store.Bytes(good), store.Condition{})
	r.must(err)
	if wentOn { // back to three records
		for info, err := range st.List(ctx, "backup/log/00000000") {
			r.must(err)
			if info.Key > key {
				r.must(st.Delete(ctx, info.Key, store.Condition{}))
			}
		}
		for info, err := range st.List(ctx, "backup/base") {
			r.must(err)
			if info.Key > "backup/base/000000000003" {
				r.must(st.Delete(ctx, info.Key, store.Condition{}))
			}
		}
		r.must(os.RemoveAll(filepath.Join(filepath.Dir(r.data), "tritonops", "backup", "cache.jsonl")))
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}

func (r *rig) read(st store.Store, key string) []byte {
	r.t.Helper()
	b, _, err := store.Read(context.Background(), st, key, 1<<20)
	r.must(err)
	return b
}

func half(b []byte) []byte  { return b[:len(b)/2] }
func garbage([]byte) []byte { return bytes.Repeat([]byte("\x1b[2J\x00garbage"), 100) }

// archive is a record made by somebody else.
func archive(members map[string]string) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, name := range []string{"record.json", "entries-000001.jsonl", "manifests/../../../escape"} {
		if text, ok := members[name]; ok {
			// The writer's errors are those of a buffer, which has none.
			_ = tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatPAX})
			_, _ = io.WriteString(tw, text)
		}
	}
	_ = tw.Close()
	_ = gz.Close()
	return b.Bytes()
}

// The mirror can be changed by anybody: it is never the truth.
func TestAMirrorChangedByHand(t *testing.T) {
	r := newRig(t, 4).begin()
	st, ctx := r.store(), context.Background()
	var manifests, images []string
	for p := range r.tree(r.data) {
		if strings.HasPrefix(p, "manifests/") {
			manifests = append(manifests, "backup/"+p)
		} else {
			images = append(images, "backup/"+p)
		}
	}
	spoil := func(key string) {
		b := r.read(st, key)
		b[0] ^= 1
		_, err := st.Put(ctx, key, store.Bytes(b), store.Condition{})
		r.must(err)
	}
	spoil(manifests[0])
	r.must(st.Delete(ctx, manifests[1], store.Condition{}))
	_, err := st.Put(ctx, manifests[2], zeros(100<<20), store.Condition{})
	r.must(err)
	_, err = st.Put(ctx, "backup/manifests/01b2c898-945f-11e1-a523-af1afbe22822.raw", store.Bytes("{}"), store.Condition{})
	r.must(err)
	_, err = st.Put(ctx, "backup/manifests/note to self.txt", store.Bytes("do not delete"), store.Condition{})
	r.must(err)
	spoil(images[0])
	r.must(st.Delete(ctx, images[1], store.Condition{}))

	out := r.run([]int{3}, "imgapi", "backup", "verify", "--deep")
	for _, key := range []string{manifests[0], manifests[1], manifests[2], "01b2c898", strings.TrimPrefix(images[0], "backup/"), strings.TrimPrefix(images[1], "backup/")} {
		if !strings.Contains(out, key) {
			t.Errorf("%s is not named\n%s", key, out)
		}
	}
	r.run([]int{0}, "imgapi", "backup", "run", "--verify")
	r.deep()
	if b := r.read(st, "backup/manifests/note to self.txt"); string(b) != "do not delete" {
		t.Errorf("a person's note: %q", b)
	}
}

// Without format.json a log cannot be told from none: the mirror is restored, and
// the next run goes on with the records that are there.
func TestALogWithoutItsFormatFile(t *testing.T) {
	r := newRig(t, 3).begin()
	st := r.store()
	r.must(st.Delete(context.Background(), "backup/format.json", store.Condition{}))
	want := r.tree(r.data)
	into := filepath.Join(filepath.Dir(r.data), "into")
	r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
	r.same("restored", r.tree(into), want)
	r.must(os.RemoveAll(into))
	code, out := r.try("imgapi", "backup", "run")
	t.Logf("exit %d\n%s", code, out)
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
	for _, at := range []string{"1", "2"} {
		r.run([]int{0}, "imgapi", "backup", "verify", "--deep", "--at", at)
	}
}

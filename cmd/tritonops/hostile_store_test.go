package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
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
	swallow atomic.Pointer[string] // uploads to paths with this in them are answered 200 and dropped
	met     atomic.Int32
}

func newTwistedManta(t *testing.T, r *rig) *twistedManta {
	t.Helper()
	target, err := url.Parse(r.lab.State().Manta.URL)
	r.must(err)
	m := &twistedManta{}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true},
		ModifyResponse: m.modify,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if part := m.swallow.Load(); part != nil && q.Method == http.MethodPut && strings.Contains(q.URL.Path, *part) {
			m.met.Add(1)
			_, err := io.Copy(io.Discard, q.Body)
			if err == nil {
				w.WriteHeader(http.StatusOK)
			}
			return
		}
		proxy.ServeHTTP(w, q)
	}))
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
	t.Parallel()
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

// Something between us and Manta says 200 to an upload and stores nothing.
func TestAProxyThatAnswersInMantasPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3).begin()
	m := newTwistedManta(t, r)
	for _, part := range []string{"/backup/images/", "/backup/history/", "/backup/log/", "/backup/manifests/", "/backup/mirror.json"} {
		t.Run(part, func(t *testing.T) {
			r := r.in(t)
			r.change()
			m.met.Store(0)
			m.swallow.Store(&part)
			code, out := r.try("imgapi", "backup", "run", "--max-delete", "100%", "--manta-url", m.url, "--manta-insecure")
			m.swallow.Store(nil)
			t.Logf("%d uploads, exit %d\n%s", m.met.Load(), code, out)
			if m.met.Load() == 0 || code != int(fail.Unreachable) || !strings.Contains(out, part) {
				t.Errorf("exit %d\n%s", code, out)
			}
			r.whole(out)
			r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%")
			r.deep()
		})
	}
}

// A backup of the stock scripts is known from its listings alone.
func TestHostileNamesInABackupWithoutALog(t *testing.T) {
	t.Parallel()
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

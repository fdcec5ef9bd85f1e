package manta

import (
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

// front is a small strict front end, written from the facts about the service. It
// fails the test on requests no client should send.
type front struct {
	t     *testing.T
	key   *sshkey.Key
	srv   *httptest.Server
	fault func(w http.ResponseWriter, r *http.Request) bool // true: it has answered

	mu      sync.Mutex
	dirs    map[string]bool
	objects map[string]*object
	log     []string // "METHOD path?query"
	heads   []http.Header
	noMD5   bool // no Computed-Md5 in answers to PUT
	bare    bool // listings without result-set-size and contentMD5
	barred  bool // markers are exclusive
}

type object struct {
	etag, contentType string
	data              []byte
	mtime             time.Time
	meta              map[string]string
}

func newFront(t *testing.T, tls bool) *front {
	t.Helper()
	f := &front{t: t, key: testKey(t), dirs: map[string]bool{"/bob/stor": true}, objects: map[string]*object{}}
	f.srv = httptest.NewUnstartedServer(f)
	f.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // connections end in the middle of things here
	if tls {
		f.srv.StartTLS()
	} else {
		f.srv.Start()
	}
	t.Cleanup(f.srv.Close)
	return f
}

var testKey = func() func(t testing.TB) *sshkey.Key {
	get := sync.OnceValues(func() (*sshkey.Key, error) {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return sshkey.New(priv, "test key")
	})
	return func(t testing.TB) *sshkey.Key {
		k, err := get()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}()

// client returns a client of f, quick to retry.
func (f *front) client(change ...func(*Config)) *Client {
	f.t.Helper()
	s, err := NewSigner(f.key, "bob", "")
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := Config{URL: f.srv.URL, Account: "bob", Signer: s, HeaderTimeout: 5 * time.Second,
		Retry: Retry{Attempts: 4, Base: time.Millisecond, Max: 4 * time.Millisecond}}
	if f.srv.TLS != nil {
		cfg.RootCAs = f.srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// requests returns the log so far and empties it.
func (f *front) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.log
	f.log, f.heads = nil, nil
	return l
}

func (f *front) put(path string, data []byte) *object {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := &object{etag: uuid.NewString(), data: data, contentType: "text/plain", mtime: time.Now().UTC()}
	f.objects[path] = o
	return o
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.RequestURI())
	f.heads = append(f.heads, r.Header.Clone())
	f.mu.Unlock()
	if r.ProtoMajor != 1 || r.Header.Get("Accept-Encoding") != "" || r.Header.Get("X-Request-Id") == "" {
		f.t.Errorf("%s %s: HTTP/1.1, no compression and a request id are expected: %v", r.Method, r.URL, r.Header)
	}
	w.Header().Set("X-Request-Id", "srv-"+r.Header.Get("X-Request-Id"))
	if f.fault != nil && f.fault(w, r) {
		return
	}
	if err := verify(r, f.key); err != nil {
		refuse(w, 403, "InvalidSignature", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Method {
	case "PUT":
		f.servePut(w, r)
	case "GET", "HEAD":
		f.serveGet(w, r)
	case "DELETE":
		f.serveDelete(w, r)
	default:
		refuse(w, 405, "MethodNotAllowed", r.Method)
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"code": code, "message": message})
}

// condition imitates the raw comparison of the service.
func condition(w http.ResponseWriter, r *http.Request, etag string) bool {
	if len(r.Header["If-None-Match"]) > 0 {
		refuse(w, 412, "PreconditionFailed", "if-none-match: * fails always")
		return false
	}
	want := r.Header.Get("If-Match")
	if want == "" || want == etag || want == `""` && etag == "" {
		return true
	}
	refuse(w, 412, "PreconditionFailed", fmt.Sprintf("if-match %q didn't match etag %q", want, etag))
	return false
}

func (f *front) servePut(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Path
	if !f.dirs[parent(p)] && p != "/bob/stor" {
		refuse(w, 404, "DirectoryDoesNotExist", parent(p)+" does not exist")
		return
	}
	if strings.Contains(r.Header.Get("Content-Type"), "type=directory") {
		f.dirs[p] = true
		w.WriteHeader(204)
		return
	}
	if r.ContentLength < 0 {
		f.t.Errorf("PUT %s without Content-Length", p)
	}
	old := f.objects[p]
	etag := ""
	if old != nil {
		etag = old.etag
	}
	if !condition(w, r, etag) {
		return
	}
	f.mu.Unlock()
	data, err := io.ReadAll(r.Body)
	f.mu.Lock()
	if err != nil || int64(len(data)) != r.ContentLength {
		return // a cut upload is not an object
	}
	if r.Header.Get("If-Match") != "" && f.objects[p] != old {
		refuse(w, 409, "ConcurrentRequest", p+" was modified concurrently")
		return
	}
	sum := md5.Sum(data)
	if want := r.Header.Get("Content-Md5"); want != "" && want != formatMD5(sum[:]) {
		refuse(w, 400, "ContentMD5Mismatch", "wrong")
		return
	}
	o := &object{etag: uuid.NewString(), data: data, contentType: r.Header.Get("Content-Type"), mtime: time.Now().UTC(), meta: map[string]string{}}
	for k := range r.Header {
		if strings.HasPrefix(k, "M-") {
			o.meta[k] = r.Header.Get(k)
		}
	}
	f.objects[p] = o
	w.Header().Set("Etag", o.etag)
	w.Header().Set("Last-Modified", o.mtime.Format(http.TimeFormat))
	if !f.noMD5 {
		w.Header().Set("Computed-Md5", formatMD5(sum[:]))
	}
	w.WriteHeader(204)
}

func (f *front) serveGet(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Path
	if f.dirs[p] {
		f.serveList(w, r, p)
		return
	}
	o := f.objects[p]
	if o == nil {
		refuse(w, 404, "ResourceNotFound", p+" was not found")
		return
	}
	if !condition(w, r, o.etag) {
		return
	}
	h := w.Header()
	h.Set("Etag", o.etag)
	h.Set("Last-Modified", o.mtime.Format(http.TimeFormat))
	h.Set("Durability-Level", "2")
	h.Set("Content-Type", o.contentType)
	sum := md5.Sum(o.data)
	h.Set("Content-Md5", formatMD5(sum[:]))
	for k, v := range o.meta {
		h.Set(k, v)
	}
	data, status := o.data, 200
	if m := regexp.MustCompile(`^bytes=(\d+)-(\d*)$`).FindStringSubmatch(r.Header.Get("Range")); m != nil {
		from, _ := strconv.Atoi(m[1])
		to := len(data) - 1
		if n, err := strconv.Atoi(m[2]); err == nil && n < to {
			to = n
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data)))
		data, status = data[from:to+1], 206
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}

// line is an entry of a listing.
type line struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	MTime string `json:"mtime"`
	ETag  string `json:"etag,omitempty"`
	Size  *int   `json:"size,omitempty"`
	MD5   string `json:"contentMD5,omitempty"`
}

func (f *front) lines(dir string) []line {
	var lines []line
	for p := range f.dirs {
		if parent(p) == dir {
			lines = append(lines, line{Name: base(p), Type: "directory", MTime: "2026-11-22T18:35:21.000Z"})
		}
	}
	for p, o := range f.objects {
		if parent(p) == dir {
			n, sum := len(o.data), md5.Sum(o.data)
			l := line{Name: base(p), Type: "object", MTime: o.mtime.Format(time.RFC3339Nano), ETag: o.etag, Size: &n, MD5: formatMD5(sum[:])}
			if f.bare {
				l.MD5 = ""
			}
			lines = append(lines, l)
		}
	}
	return lines
}

func (f *front) serveList(w http.ResponseWriter, r *http.Request, dir string) {
	lines := f.lines(dir)
	total := len(lines)
	q := r.URL.Query()
	less := func(a, b line) int { return strings.Compare(a.Name, b.Name) }
	key := func(l line) string { return l.Name }
	if q.Get("sort") == "mtime" {
		less = func(a, b line) int { return strings.Compare(b.MTime, a.MTime) }
		key = func(l line) string { return l.MTime }
	}
	reverse := q.Get("sort_order") == "reverse"
	slices.SortStableFunc(lines, less)
	if reverse {
		slices.SortStableFunc(lines, func(a, b line) int { return less(b, a) })
	}
	if m := q.Get("marker"); m != "" {
		lines = slices.DeleteFunc(lines, func(l line) bool {
			if f.barred && key(l) == m {
				return true
			}
			desc := reverse != (q.Get("sort") == "mtime")
			return key(l) != m && (key(l) < m) != desc
		})
	}
	limit, err := 256, error(nil)
	if q.Has("limit") {
		limit, err = strconv.Atoi(q.Get("limit"))
	}
	if err != nil || limit < 1 || limit > 1024 {
		refuse(w, 400, "InvalidParameter", "limit")
		return
	}
	w.Header().Set("Content-Type", "application/x-json-stream; type=directory")
	if !f.bare {
		w.Header().Set("Result-Set-Size", strconv.Itoa(total))
	}
	enc := json.NewEncoder(w)
	for _, l := range lines[:min(limit, len(lines))] {
		enc.Encode(l)
	}
}

func (f *front) serveDelete(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Path
	o := f.objects[p]
	switch {
	case o != nil:
		if condition(w, r, o.etag) {
			delete(f.objects, p)
			w.WriteHeader(204)
		}
	case f.dirs[p]:
		for q := range f.objects {
			if parent(q) == p {
				refuse(w, 400, "DirectoryNotEmpty", p)
				return
			}
		}
		delete(f.dirs, p)
		w.WriteHeader(204)
	default:
		refuse(w, 404, "ResourceNotFound", p+" was not found")
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.Close()
	}
}

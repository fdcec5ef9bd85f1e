package manta

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

var testURL = &url.URL{}

func TestASecondsSignatureIsMadeOnceAndShared(t *testing.T) {
	s, err := NewSigner(testKey(t), "bob", "alice")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			date := time.Unix(int64(i%2), 0).UTC().Format(http.TimeFormat)
			h, err := s.Sign(date, true)
			if err != nil {
				t.Error(err)
				return
			}
			m := authorization.FindStringSubmatch(h)
			if m == nil || m[1] != "/bob/alice/keys/"+testKey(t).MD5() {
				t.Errorf("header %q", h)
			} else if err := verifySignature(testKey(t), m[2], "date: "+date, m[3]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if h, _ := s.Sign("x", false); !strings.Contains(h, `"/bob/users/alice/keys/`) {
		t.Errorf("CloudAPI names sub-users another way: %s", h)
	}
	for _, bad := range []string{"", "a/b", "a\"b", "a\nb", "..", "ä"} {
		if _, err := NewSigner(testKey(t), bad, ""); err == nil {
			t.Errorf("login %q was accepted", bad)
		}
	}
}

func TestANewKeyMayFlapForAWhile(t *testing.T) {
	f := newFront(t, false)
	f.put("/bob/stor/o", []byte("x"))
	var n atomic.Int32
	refusals := int32(5)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > refusals {
			return false
		}
		refuse(w, 403, "KeyDoesNotExist", "the key does not exist")
		return true
	}
	patient := f.client(func(cfg *Config) { cfg.AuthGrace = 2 * time.Second })
	if _, err := patient.Put(t.Context(), "/bob/stor/p", Bytes("x"), PutOptions{If: Absent()}); err != nil {
		t.Errorf("a conditional put is repeated too, since a refusal proves that it was not applied: %v", err)
	}
	n.Store(0)
	refusals = 6 // a refused HEAD asks again for its reason
	if _, err := patient.Head(t.Context(), "/bob/stor/o"); err != nil {
		t.Error(err)
	}
	n.Store(0)
	if _, err := f.client().Head(t.Context(), "/bob/stor/o"); !errors.Is(err, ErrAuth) || fail.CodeOf(err) != fail.Unreachable {
		t.Errorf("without grace the first refusal counts: %v", err)
	}
}

func TestAStableRefusalIsBelieved(t *testing.T) {
	f := newFront(t, false)
	var code atomic.Pointer[string]
	set := func(s string) { code.Store(&s) }
	f.fault = func(w http.ResponseWriter, r *http.Request) bool { refuse(w, 403, *code.Load(), "no"); return true }
	c := f.client(func(cfg *Config) { cfg.AuthGrace = 300 * time.Millisecond })
	set("KeyDoesNotExist")
	start := time.Now()
	_, err := c.Head(t.Context(), "/bob/stor/o")
	var e *Error
	if took := time.Since(start); !errors.As(err, &e) || e.Code != "KeyDoesNotExist" || took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	start = time.Now()
	if _, err := c.Head(t.Context(), "/bob/stor/o"); !errors.Is(err, ErrAuth) || time.Since(start) > 200*time.Millisecond {
		t.Errorf("once stable it is believed at once: after %v: %v", time.Since(start), err)
	}
	set("NoMatchingRoleTag")
	f.requests()
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{}); !errors.Is(err, ErrAuth) || len(f.requests()) != 1 {
		t.Errorf("a refusal that is not about the key is final: %v", err)
	}
}

func TestErrorAnswersAreDecodedBoundedAndWithoutSecrets(t *testing.T) {
	f := newFront(t, false)
	var body, auth string
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		auth = r.Header.Get("Authorization")
		w.WriteHeader(400)
		io.WriteString(w, strings.ReplaceAll(body, "AUTH", strings.ReplaceAll(auth, `"`, `\"`)))
		return true
	}
	c := f.client()
	for name, tc := range map[string]struct{ body, says string }{
		"json":       {`{"code":"InvalidParameter","message":"limit"}`, "400 InvalidParameter: limit (request srv-"},
		"html":       {"<html><body>Bad gateway</body></html>", "400 Bad Request (request srv-"},
		"empty":      {"", "400 Bad Request (request srv-"},
		"huge":       {`{"code":"X","message":"` + strings.Repeat("y", 10<<20) + `"}`, "400 Bad Request"},
		"controls":   {`{"code":"X","message":"a\u001b[31mb\nc"}`, "400 X: a [31mb c"},
		"odd code":   {`{"code":"X\n: y","message":"m"}`, "400 Bad Request: m"},
		"array":      {`[]`, "400 Bad Request"},
		"long":       {`{"code":"X","message":"` + strings.Repeat("y", 2000) + `"}`, "yyy..."},
		"echo":       {`{"code":"X","message":"got AUTH"}`, "[redacted]"},
		"upper case": {`{"code":"X","message":"SIGNATURE = 'abcdef'"}`, "[redacted]"},
	} {
		body = tc.body
		_, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{})
		if err == nil || !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v", name, err)
		}
		if m := authorization.FindStringSubmatch(auth); m == nil || strings.Contains(err.Error(), m[3]) || strings.Contains(err.Error(), "abcdef") {
			t.Errorf("%s: the signature is in the error: %v", name, err)
		}
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
		return true
	}
	if _, err := c.Head(t.Context(), "/bob/stor/o"); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("a redirect is not followed: %v", err)
	}
}

func TestAServerIsKnownByAuthorityByFingerprintOrNotAtAll(t *testing.T) {
	f := newFront(t, true)
	f.put("/bob/stor/o", []byte("x"))
	sum := sha256.Sum256(f.srv.Certificate().Raw)
	pin := hex.EncodeToString(sum[:])
	for name, tc := range map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"authority":        {func(*Config) {}, true},
		"unknown":          {func(c *Config) { c.RootCAs = nil }, false},
		"insecure":         {func(c *Config) { c.RootCAs, c.Insecure = nil, true }, true},
		"pinned":           {func(c *Config) { c.RootCAs, c.Fingerprint = nil, "SHA256:"+strings.ToUpper(pin) }, true},
		"pinned, another":  {func(c *Config) { c.Fingerprint = strings.Repeat("00", 32) }, false},
		"another, trusted": {func(c *Config) { c.Insecure, c.Fingerprint = true, strings.Repeat("00", 32) }, false},
	} {
		c := f.client(tc.change)
		start := time.Now()
		for range 2 { // the second may resume the TLS session
			_, err := c.Head(t.Context(), "/bob/stor/o")
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			c.Close()
		}
		if time.Since(start) > 2*time.Second {
			t.Errorf("%s: repeated, though it cannot help", name)
		}
	}
	if _, err := New(Config{URL: f.srv.URL, Account: "bob", Fingerprint: "12"}); err == nil {
		t.Error("a fingerprint that is none was accepted")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{URL: "", Account: "bob"}, {URL: "ftp://x", Account: "bob"}, {URL: "https://u:secret@x", Account: "bob"},
		{URL: "https://u:secret@x\x7f", Account: "bob"}, {URL: "https://x?y", Account: "bob"}, {URL: "https://x", Account: ""},
		{URL: "https://x", Account: "bob", Parallel: -1}, {URL: "https://x", Account: "bob", Roles: []string{"a,b"}},
		{URL: "https://x", Account: "bob", SubUser: "alice", Signer: &Signer{key: testKey(t), account: "bob"}},
	} {
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	f := newFront(t, false)
	f.put("/bob/stor/o", []byte("x"))
	if _, err := f.client().Head(t.Context(), "/bob/stor/o"); err != nil {
		t.Error(err)
	}
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proxied.Add(1); w.WriteHeader(404) }))
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := f.client(func(cfg *Config) { cfg.Proxy = http.ProxyURL(u) })
	if _, err := c.Head(t.Context(), "/bob/stor/o"); !errors.Is(err, ErrNotFound) || proxied.Load() != 1 {
		t.Errorf("through a proxy: %v, %d", err, proxied.Load())
	}
}

func TestServerTimeFollowsTheService(t *testing.T) {
	f := newFront(t, false)
	c := f.client()
	if _, ok := c.ServerTime(); ok {
		t.Error("a time before any answer")
	}
	want := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Date", want.Format(http.TimeFormat))
		w.WriteHeader(404)
		return true
	}
	c.Head(t.Context(), "/bob/stor/o")
	if got, ok := c.ServerTime(); !ok || got.Before(want) || got.After(want.Add(5*time.Second)) {
		t.Errorf("%v, %v", got, ok)
	}
}

func TestParallelBoundsRequestsUnderWay(t *testing.T) {
	f := newFront(t, false)
	var now, most atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		w.WriteHeader(404)
		return true
	}
	c := f.client(func(cfg *Config) { cfg.Parallel = 3 })
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { c.Head(t.Context(), "/bob/stor/o") })
	}
	wg.Wait()
	if most.Load() > 3 {
		t.Errorf("%d at once", most.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Head(ctx, "/bob/stor/o"); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"code":"ResourceNotFound","message":"x was not found"}`))
	f.Add([]byte("<html>signature=\"abc\""))
	f.Add([]byte(`{"code":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		code, message := decodeError(b)
		if len(code) > 64 || len(message) > maxMessage*4+8 {
			t.Errorf("%d and %d bytes", len(code), len(message))
		}
		if _, err := json.Marshal(message); err != nil || strings.ContainsAny(code+message, "\x00\x1b\n\r") {
			t.Errorf("%q %q", code, message)
		}
	})
}

func FuzzListingLine(f *testing.F) {
	f.Add([]byte(objectLine("a")))
	f.Add([]byte(`{"name":"d","type":"directory","mtime":"2026-11-22T18:35:21.000Z"}`))
	f.Add([]byte(`{"name":"..","type":"object","size":-1,"contentMD5":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b, "/bob/stor")
		if err != nil {
			return
		}
		if checkName(e.Name) != nil || e.Path != "/bob/stor/"+e.Name || e.Size < 0 || e.MD5 != nil && len(e.MD5) != 16 {
			t.Errorf("%+v", e)
		}
	})
}

func FuzzPathEscaping(f *testing.F) {
	f.Add("/bob/stor/a b+é%?#\n.txt")
	f.Add("/bob/stor/\xff\xfe;:@&=$,!*'()")
	f.Fuzz(func(t *testing.T, s string) {
		esc := escape(s, true)
		if back, err := url.PathUnescape(esc); err != nil || back != s {
			t.Errorf("%q became %q, then %q: %v", s, esc, back, err)
		}
		if strings.Trim(esc, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/%") != "" {
			t.Errorf("%q has bytes to be escaped", esc)
		}
		u := url.URL{Scheme: "http", Host: "x", Path: "/" + s, RawPath: "/" + esc}
		if got := u.EscapedPath(); got != "/"+esc {
			t.Errorf("%q would be sent as %q", esc, got)
		}
	})
}

package rest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, base string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: base, Timeout: 5 * time.Second, Stall: 200 * time.Millisecond, Retry: Retry{Base: time.Millisecond, Max: 5 * time.Millisecond}}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func TestBaseURLsThatAreNotServicesAreRefusedWithoutEchoingSecrets(t *testing.T) {
	for _, raw := range []string{"", "localhost", "ftp://x", "http://", "http://u:hunter2@x", "http://x?q=1", "http://u:hunter2@x:port"} {
		_, err := New(Config{BaseURL: raw})
		if err == nil {
			t.Errorf("%q was taken", raw)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error holds the password: %v", err)
		}
	}
}

func TestEveryAttemptOfACallCarriesOneRequestIDAndCallsDiffer(t *testing.T) {
	var mu sync.Mutex
	var ids []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ids = append(ids, r.Header.Get("X-Request-Id"))
		n := len(ids)
		mu.Unlock()
		if n < 3 {
			answer(w, 503, `{"code":"ServiceUnavailableError","message":"starting"}`)
			return
		}
		answer(w, 200, `{}`)
	})
	c := client(t, s.URL, nil)
	res, err := c.JSON(t.Context(), Request{Path: "/x"}, &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.JSON(t.Context(), Request{Path: "/x"}, nil); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 4 || ids[0] != ids[1] || ids[1] != ids[2] || ids[2] == ids[3] || res.RequestID != ids[0] {
		t.Errorf("request ids %q, response says %q", ids, res.RequestID)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(ids[0]) {
		t.Errorf("%q is not a UUID; it kills a stock IMGAPI", ids[0])
	}
}

func TestOnlyIdempotentRequestsAreRepeated(t *testing.T) {
	for method, want := range map[string]int32{"GET": 3, "PUT": 3, "DELETE": 3, "POST": 1, "PATCH": 1} {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); answer(w, 503, `{}`) })
		_, err := client(t, s.URL, nil).JSON(t.Context(), Request{Method: method, Path: "/x", Body: map[string]int{"a": 1}}, nil)
		if n.Load() != want || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %d attempts, want %d; error %v", method, n.Load(), want, err)
		}
	}
}

func TestABodyIsSentWholeWithEveryAttempt(t *testing.T) {
	var bodies []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		answer(w, map[bool]int{true: 200, false: 503}[len(bodies) == 2], `{}`)
	})
	if _, err := client(t, s.URL, nil).JSON(t.Context(), Request{Method: "PUT", Path: "/x", Body: []int{1, 2}}, nil); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(bodies) != "[[1,2] [1,2]]" {
		t.Errorf("bodies %q", bodies)
	}
}

// cutter accepts connections, reads one request and closes without an answer.
func cutter(t *testing.T) (string, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n := new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.Copy(io.Discard, req.Body)
			}
			conn.Close()
		}
	}()
	return "http://" + l.Addr().String(), n
}

func TestALostAnswerToAPostIsAnUnknownOutcomeAndNotRepeated(t *testing.T) {
	base, n := cutter(t)
	_, err := client(t, base, nil).JSON(t.Context(), Request{Method: "POST", Path: "/x", Body: 1}, nil)
	if !errors.Is(err, ErrUnknownOutcome) || n.Load() != 1 {
		t.Errorf("%d attempts, error %v", n.Load(), err)
	}
	_, err = client(t, base, nil).JSON(t.Context(), Request{Path: "/x"}, nil)
	if errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrUnavailable) || n.Load() != 4 {
		t.Errorf("GET: %d attempts in all, want 4; error %v", n.Load(), err)
	}
}

func TestAPostThatNeverWentOutIsNotAnUnknownOutcome(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	base := "http://" + l.Addr().String()
	l.Close()
	_, err := client(t, base, nil).JSON(t.Context(), Request{Method: "POST", Path: "/x"}, nil)
	if errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestCompressionIsNeverAskedFor(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get("Accept-Encoding"); v != "" {
			t.Errorf("Accept-Encoding: %s", v)
		}
		answer(w, 200, `{}`)
	})
	if _, err := client(t, s.URL, nil).JSON(t.Context(), Request{Path: "/"}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
}

func TestRedirectsStayOnTheHost(t *testing.T) {
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host was asked, Authorization %q", r.Header.Get("Authorization"))
	})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/old":
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
		case "/new":
			answer(w, 200, `{"a":1}`)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusMovedPermanently)
		default:
			http.Redirect(w, r, elsewhere.URL+"/x", http.StatusFound)
		}
	})
	c := client(t, s.URL, func(cfg *Config) { cfg.Header = http.Header{"Authorization": {"secret"}} })
	var v struct{ A int }
	if _, err := c.JSON(t.Context(), Request{Path: "/old"}, &v); err != nil || v.A != 1 {
		t.Errorf("same host: %v, %+v", err, v)
	}
	for path, want := range map[string]string{"/away": "redirected to another host", "/loop": "more than 4 redirects"} {
		if _, err := c.JSON(t.Context(), Request{Path: path}, &v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	var e *Error
	if _, err := c.JSON(t.Context(), Request{Method: "POST", Path: "/away"}, nil); !errors.As(err, &e) || e.Status != 302 {
		t.Errorf("POST: %v", err)
	}
}

func TestATLSServerIsBelievedByRootsPinOrConsentOnly(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{}`) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
	s.StartTLS()
	t.Cleanup(s.Close)
	sum := sha256.Sum256(s.Certificate().Raw)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var attempts atomic.Int32
	for name, c := range map[string]struct {
		tls  TLS
		good bool
	}{
		"nothing":   {TLS{}, false},
		"insecure":  {TLS{Insecure: true}, true},
		"roots":     {TLS{RootCAs: roots}, true},
		"pin":       {TLS{Fingerprint: Fingerprint(sum[:])}, true},
		"plain pin": {TLS{Fingerprint: "SHA256:" + hex.EncodeToString(sum[:])}, true},
		"wrong pin": {TLS{Fingerprint: strings.Repeat("00", 32)}, false},
		// A pin is stronger than consent: it must not be switched off by it.
		"wrong pin, insecure": {TLS{Insecure: true, Fingerprint: strings.Repeat("00", 32)}, false},
	} {
		attempts.Store(0)
		cl := client(t, s.URL, func(cfg *Config) { cfg.TLS, cfg.Notify = c.tls, func(string) { attempts.Add(1) } })
		_, err := cl.JSON(t.Context(), Request{Path: "/"}, nil)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if attempts.Load() != 0 {
			t.Errorf("%s: a wrong certificate was tried again", name)
		}
	}
	if _, err := New(Config{BaseURL: s.URL, TLS: TLS{Fingerprint: "abc"}}); err == nil {
		t.Error("a fingerprint that is none was taken")
	}
}

func TestPathsAndQueriesArriveEscaped(t *testing.T) {
	var got string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.RequestURI; answer(w, 200, `{}`) })
	c := client(t, s.URL+"/prefix/", nil)
	_, err := c.JSON(t.Context(), Request{Path: Path("a/b", "...", "c d?"), Query: url.Values{"q": {"1&2"}}}, nil)
	if err != nil || got != "/prefix/a%2Fb/.../c%20d%3F?q=1%262" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"x", "/x%zz", Path("a", "..", "b"), "/%2e%2E/x", "/."} {
		if _, err := c.JSON(t.Context(), Request{Path: bad}, nil); err == nil {
			t.Errorf("path %q was taken", bad)
		}
	}
}

func TestSignSeesTheFinishedRequestOfEveryAttempt(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			t.Error("unsigned attempt")
		}
		answer(w, map[bool]int{true: 503, false: 200}[n.Add(1) == 1], `{}`)
	})
	var signed int
	c := client(t, s.URL, func(cfg *Config) {
		cfg.Sign = func(r *http.Request) error {
			signed++
			if r.Header.Get("X-Request-Id") == "" {
				t.Error("signed before the request id was there")
			}
			r.Header.Set("Authorization", "x")
			return nil
		}
	})
	if _, err := c.JSON(t.Context(), Request{Path: "/"}, nil); err != nil || signed != 2 {
		t.Errorf("%v, signed %d times", err, signed)
	}
}

func TestPausesGrowAreBoundedAndHonourTheServer(t *testing.T) {
	r := Retry{Base: 100 * time.Millisecond, Max: time.Second}
	for n, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 9: time.Second, 200: time.Second} {
		for range 50 {
			if d := r.pause(n, 0); d < want/2 || d > want {
				t.Fatalf("pause %d: %v outside %v..%v", n, d, want/2, want)
			}
		}
	}
	if d := r.pause(1, 700*time.Millisecond); d != 700*time.Millisecond {
		t.Errorf("Retry-After is not honoured: %v", d)
	}
	if d := r.pause(1, time.Hour); d != time.Second {
		t.Errorf("Retry-After is not bounded: %v", d)
	}
}

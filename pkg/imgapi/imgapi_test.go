package imgapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/rest"
)

const uuid1 = "01b2c898-945f-11e1-a523-af1afbe22822"

// strict is an image server for tests that fails the test on any request a
// client of ours must never send.
func strict(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	isUUID := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodHead:
			t.Errorf("HEAD %s: 405 on every route", r.URL)
		case strings.HasSuffix(r.URL.Path, "/jobs"), len(q["sort"]) > 1, q.Has("billing_tag"),
			q.Has("public") && q.Get("public") != "true" && q.Get("public") != "false":
			t.Errorf("%s %s: ends a stock server", r.Method, r.URL)
		case !isUUID.MatchString(r.Header.Get("X-Request-Id")):
			t.Errorf("%s %s: request id %q", r.Method, r.URL, r.Header.Get("X-Request-Id"))
		case strings.Contains(r.Header.Get("Authorization"), ", "):
			t.Errorf("%s %s: space after a comma in %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func newClient(t *testing.T, url string, s Signer) *Client {
	t.Helper()
	c, err := New(Config{URL: url, Signer: s, Timeout: 5 * time.Second, Stall: 300 * time.Millisecond,
		MaxImage: 64 << 10, Retry: rest.Retry{Attempts: 2, Base: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func rsaSigner(t *testing.T, user string) (Signer, *rsa.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(user, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, &key.PublicKey
}

// verify checks a signature the way the server does.
func verify(t *testing.T, r *http.Request, user string, pub *rsa.PublicKey) bool {
	t.Helper()
	m := regexp.MustCompile(`^Signature keyId="([^"]*)",algorithm="rsa-sha256",headers="date",signature="([^"]*)"$`).
		FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil || m[1] != user {
		t.Errorf("authorization %q", r.Header.Get("Authorization"))
		return false
	}
	date := r.Header.Get("Date")
	if at, err := http.ParseTime(date); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("date %q: %v", date, err)
	}
	sig, err := base64.StdEncoding.DecodeString(m[2])
	if err != nil {
		t.Error(err)
	}
	sum := sha256.Sum256([]byte("date: " + date))
	return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil
}

func TestPingTellsVersionAndState(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "imgapi/4.13.1")
		w.Header().Set("x-server-name", "images0")
		if r.URL.Path != "/ping" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s with %q", r.URL, r.Header.Get("Authorization"))
		}
		reply(w, 200, "{\n  \"ping\": \"pong\",\n  \"version\": \"4.13.1\",\n  \"imgapi\": true, \"state\": \"readonly\"\n}")
	})
	p, err := newClient(t, url, nil).Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "4.13.1" || p.State != "readonly" || p.Server != "imgapi/4.13.1" || p.ServerName != "images0" {
		t.Errorf("%+v", p)
	}
}

func TestPingFromSomethingElseIsAnError(t *testing.T) {
	for _, body := range []string{`{"ping":"pong"}`, `{}`, `{"status":"OK"}`, `[]`} {
		url := strict(t, func(w http.ResponseWriter, r *http.Request) { reply(w, 200, body) })
		if p, err := newClient(t, url, nil).Ping(t.Context()); err == nil {
			t.Errorf("%s was taken for an image server: %+v", body, p)
		}
	}
}

func TestSignedCallsCarryWhatTheServerVerifies(t *testing.T) {
	s, pub := rsaSigner(t, "alice")
	var seen []string
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		if !verify(t, r, "alice", pub) {
			reply(w, 401, `{"code":"UnauthorizedError","message":"Unauthorized"}`)
			return
		}
		seen = append(seen, r.Method+" "+r.URL.RequestURI())
		switch r.URL.Path {
		case "/ping":
			reply(w, 200, `{"ping":"pong","version":"4.13.1","imgapi":true,"pid":4711,"user":"alice"}`)
		case "/state":
			w.WriteHeader(202)
		default:
			reply(w, 200, `{}`)
		}
	})
	c := newClient(t, url, s)
	p, err := c.Ping(t.Context())
	if err != nil || p.PID != 4711 || p.User != "alice" {
		t.Errorf("%+v, %v", p, err)
	}
	if err := c.ReloadAuthKeys(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.DropCaches(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(seen, ", "); got != "GET /ping, POST /authkeys/reload, POST /state?action=dropcaches" {
		t.Error(got)
	}
}

func TestAWrongKeyIsNotAuthorisedAndNothingElse(t *testing.T) {
	s, _ := rsaSigner(t, "alice")
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		reply(w, 401, `{"code":"UnauthorizedError","message":"Unauthorized"}`)
	})
	_, err := newClient(t, url, s).Ping(t.Context())
	if !errors.Is(err, rest.ErrAuth) || fail.CodeOf(err) != fail.Unreachable {
		t.Errorf("%v, exit %d", err, fail.CodeOf(err))
	}
}

func TestPokesWithoutAKeyAreRefusedBeforeTheyAreSent(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was sent", r.Method, r.URL) })
	c := newClient(t, url, nil)
	if err := errors.Join(c.DropCaches(t.Context()), c.ReloadAuthKeys(t.Context())); fail.CodeOf(err) == fail.OK {
		t.Error("unsigned pokes went through")
	}
}

func TestKeysAndUsersTheServerCannotUseAreRefused(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if _, err := NewSigner("alice", ec); err == nil || !strings.Contains(err.Error(), "RSA") {
		t.Errorf("ECDSA: %v", err)
	}
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, user := range []string{"", "constructor", "__proto__", "toString", "hasOwnProperty", "/alice/keys/fp", `a"b`, "a b", "ü"} {
		if _, err := NewSigner(user, key); err == nil {
			t.Errorf("user %q was taken", user)
		}
	}
	if _, err := NewSigner("a.b-c_d", key); err != nil {
		t.Error(err)
	}
}

func TestASignerOfOurCallersCannotSmuggleAUserIn(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) { t.Error("sent") })
	if _, err := newClient(t, url, evil{}).Ping(t.Context()); err == nil {
		t.Error("a key id that ends the server was signed for")
	}
}

type evil struct{}

func (evil) User() string                         { return "__proto__" }
func (evil) SignRSASHA256([]byte) ([]byte, error) { return []byte("x"), nil }

func TestChannelsAreListedOrNotThere(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, `[{"name":"dev","description":"d","default":true},{"name":"release"}]`)
	})
	list, err := newClient(t, url, nil).Channels(t.Context())
	if err != nil || len(list) != 2 || !list[0].Default || list[1].Name != "release" {
		t.Errorf("%+v, %v", list, err)
	}
	url = strict(t, func(w http.ResponseWriter, r *http.Request) {
		reply(w, 404, `{"code":"ResourceNotFound","message":"/channels does not exist"}`)
	})
	if _, err := newClient(t, url, nil).Channels(t.Context()); !errors.Is(err, rest.ErrNotFound) {
		t.Error(err)
	}
}

func TestAURLThatIsNoneIsAUsageError(t *testing.T) {
	if _, err := New(Config{URL: "localhost:8080"}); fail.CodeOf(err) != fail.Usage {
		t.Errorf("%v, exit %d", err, fail.CodeOf(err))
	}
}

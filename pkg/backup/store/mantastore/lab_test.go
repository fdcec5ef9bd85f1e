package mantastore_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store/mantastore"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/manta"
	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

// lab is a Manta stand-in over TLS with an account and a key.
type lab struct {
	server *mantad.Server
	faults *fault.Set
	url    string
	roots  *x509.CertPool
	key    *sshkey.Key

	mu       sync.Mutex
	requests []mantad.Record
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{faults: fault.NewSet(1)}
	var err error
	l.server, err = mantad.New(mantad.Config{
		Dir: t.TempDir(), Accounts: []mantad.Account{{Login: "bob"}}, Faults: l.faults, DataTimeout: 5 * time.Second,
		OnRequest: func(r mantad.Record) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.requests = append(l.requests, r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if l.key, err = sshkey.New(private, "test key"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.server.AddKey("bob", "", l.key.AuthorizedKey()); err != nil {
		t.Fatal(err)
	}
	l.serve(t)
	return l
}

// serve listens with a certificate of the standard library's test server.
func (l *lab) serve(t testing.TB) {
	t.Helper()
	ts := httptest.NewTLSServer(nil)
	ts.Close()
	l.roots = x509.NewCertPool()
	l.roots.AddCert(ts.Certificate())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.url = "https://" + listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- l.server.Serve(listener, &tls.Config{Certificates: ts.TLS.Certificates}) }()
	t.Cleanup(func() {
		if err := l.server.Close(); err != nil {
			t.Errorf("lab: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("lab: %v", err)
		}
	})
}

// client returns a client of the lab, quick to retry.
func (l *lab) client(t testing.TB, change ...func(*manta.Config)) *manta.Client {
	t.Helper()
	signer, err := manta.NewSigner(l.key, "bob", "")
	if err != nil {
		t.Fatal(err)
	}
	cfg := manta.Config{URL: l.url, Account: "bob", Signer: signer, RootCAs: l.roots, HeaderTimeout: 3 * time.Second,
		Retry: manta.Retry{Attempts: 4, Base: time.Millisecond, Max: 5 * time.Millisecond}}
	for _, c := range change {
		c(&cfg)
	}
	c, err := manta.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (l *lab) store(t testing.TB, change ...func(*manta.Config)) *mantastore.Store {
	t.Helper()
	s, err := mantastore.New(l.client(t, change...), "/bob/stor/images")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add injects a fault until the end of the test or a later clear.
func (l *lab) add(t testing.TB, f fault.Fault) {
	t.Helper()
	if _, err := l.faults.Add(f); err != nil {
		t.Fatal(err)
	}
}

// met returns how many requests the lab has answered or dropped since the last
// call.
func (l *lab) met() []mantad.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.requests
	l.requests = nil
	return r
}

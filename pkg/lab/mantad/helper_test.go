package mantad

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto"

	faults "github.com/tritonops/tritonops/pkg/lab/fault"
	"golang.org/x/crypto/ssh"
)

// lab is a server with one account, on real sockets.
type lab struct {
	t      testing.TB
	s      *Server
	faults *faults.Set
	plain  string // host:port
	tls    string
	key    *signer
	client *http.Client

	mu    sync.Mutex
	date  string // of the latest signature, which holds for its second
	authz string
}

// credentials signs once a second, as good clients do.
func (l *lab) credentials() (date, authz string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if date := time.Now().UTC().Format(http.TimeFormat); date != l.date {
		l.date, l.authz = date, l.key.authorization(l.t, owner, date)
	}
	return l.date, l.authz
}

// signer signs with one key; made once, since RSA keys take their time.
type signer struct {
	private crypto.Signer
	alg     string
	public  string
	fp      string
}

var newRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newSigner(t testing.TB, kind string) *signer {
	t.Helper()
	var k crypto.Signer
	var err error
	alg := "rsa-sha256"
	switch kind {
	case "rsa":
		k = newRSA()
	case "ecdsa":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		alg = "ecdsa-sha256"
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
		alg = "ed25519-sha512"
	}
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &signer{private: k, alg: alg, public: string(ssh.MarshalAuthorizedKey(pub)), fp: ssh.FingerprintLegacyMD5(pub)}
}

// sign returns the signature of text under an algorithm of the signer's kind.
func (k *signer) sign(t testing.TB, alg, text string) string {
	t.Helper()
	var h hash.Hash
	opts := crypto.SHA256
	switch {
	case strings.HasPrefix(alg, "ed25519"):
		sig, err := k.private.Sign(rand.Reader, []byte(text), crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	case strings.HasSuffix(alg, "sha1"):
		h, opts = sha1.New(), crypto.SHA1
	case strings.HasSuffix(alg, "sha512"):
		h, opts = sha512.New(), crypto.SHA512
	default:
		h = sha256.New()
	}
	io.WriteString(h, text)
	sig, err := k.private.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

// authorization returns a header over the date.
func (k *signer) authorization(t testing.TB, account, date string) string {
	return fmt.Sprintf(`Signature keyId="/%s/keys/%s",algorithm="%s",headers="date",signature="%s"`,
		account, k.fp, k.alg, k.sign(t, k.alg, "date: "+date))
}

const owner = "admin"

func newLab(t testing.TB, change ...func(*Config)) *lab {
	t.Helper()
	set := faults.NewSet(1)
	cfg := Config{Dir: t.TempDir(), Accounts: []Account{{Login: owner}}, Faults: set}
	for _, c := range change {
		c(&cfg)
	}
	return startLab(t, cfg, set)
}

func startLab(t testing.TB, cfg Config, set *faults.Set) *lab {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := &lab{t: t, s: s, faults: set, key: newSigner(t, "rsa")}
	if _, err := s.AddKey(owner, "", l.key.public); err != nil {
		t.Fatal(err)
	}
	l.plain = l.listen(nil)
	l.tls = l.listen(&tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	l.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		MaxIdleConnsPerHost: 64, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		DisableCompression: true,
	}}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

func (l *lab) listen(conf *tls.Config) string {
	l.t.Helper()
	ln, err := newListener()
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.s.Serve(ln, conf) }()
	l.t.Cleanup(func() {
		l.s.Close()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	return ln.Addr().String()
}

func newListener() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// answer is a response read whole.
type answer struct {
	status  int
	header  http.Header
	body    string
	readErr error
}

func (a answer) code() string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &e) // no JSON: no code
	return e.Code
}

// head is the signed start of a raw request: lines without the final blank one.
func (l *lab) head(method, path string, lines ...string) string {
	date, authz := l.credentials()
	all := append([]string{
		method + " " + path + " HTTP/1.1", "Host: " + l.plain, "Date: " + date, "Authorization: " + authz,
	}, lines...)
	return strings.Join(all, "\r\n") + "\r\n"
}

// raw sends bytes over a new plain connection and reads one answer.
func (l *lab) raw(method, text string) answer {
	l.t.Helper()
	c := l.dial()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		l.t.Fatal(err)
	}
	return l.read(bufio.NewReader(c), method)
}

func (l *lab) dial() net.Conn {
	l.t.Helper()
	c, err := net.Dial("tcp", l.plain)
	if err != nil {
		l.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func (l *lab) read(r *bufio.Reader, method string) answer {
	l.t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return answer{readErr: err}
	}
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b), err}
}

// do sends one raw signed request without body.
func (l *lab) do(method, path string, lines ...string) answer {
	l.t.Helper()
	return l.raw(method, l.head(method, path, lines...)+"\r\n")
}

// put stores an object the plain way.
func (l *lab) put(path, body string, lines ...string) answer {
	l.t.Helper()
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	return l.raw("PUT", l.head("PUT", path, lines...)+"\r\n"+body)
}

func (l *lab) mkdir(path string) {
	l.t.Helper()
	if a := l.do("PUT", path, "Content-Type: application/json; type=directory", "Content-Length: 0"); a.status != 204 {
		l.t.Fatalf("mkdir %s: %d %s", path, a.status, a.body)
	}
}

func (l *lab) mustPut(path, body string, lines ...string) answer {
	l.t.Helper()
	a := l.put(path, body, lines...)
	if a.status != 204 {
		l.t.Fatalf("put %s: %d %s %v", path, a.status, a.body, a.readErr)
	}
	return a
}

func (l *lab) names(path string) []string {
	l.t.Helper()
	a := l.do("GET", path)
	if a.status != 200 {
		l.t.Fatalf("list %s: %d %s", path, a.status, a.body)
	}
	return entryNames(l.t, a.body)
}

func entryNames(t testing.TB, body string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(body) {
		var e struct{ Name string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("entry %q: %v", line, err)
		}
		names = append(names, e.Name)
	}
	return names
}

func md5Text(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// request builds a signed request for the Go client over TLS.
func (l *lab) request(method, path string, body io.Reader, size int64) *http.Request {
	l.t.Helper()
	r, err := http.NewRequest(method, "https://"+l.tls+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	if body != nil {
		r.ContentLength = size
	}
	date, authz := l.credentials()
	r.Header.Set("Date", date)
	r.Header.Set("Authorization", authz)
	return r
}

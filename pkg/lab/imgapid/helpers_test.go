package imgapid

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
	"golang.org/x/crypto/ssh"
)

const owner = "930896af-bf8c-48d4-885c-6573a94b1853"

// testKey is made once: RSA keys are slow to find.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// site is a zone's root with a server that can be started again.
type site struct {
	t      *testing.T
	root   string
	faults *fault.Set
	cfg    Config
	log    *lockedBuffer
	p      *Process
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newSite(t *testing.T, conf map[string]any) *site {
	t.Helper()
	s := &site{t: t, root: t.TempDir(), faults: fault.NewSet(1, FaultKinds()...), log: &lockedBuffer{}}
	s.configure(conf)
	pub, err := ssh.NewPublicKey(testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	s.write("etc/authkeys/local/alice.keys", "# alice\r\n\r\njunk\r\n"+string(ssh.MarshalAuthorizedKey(pub)))
	s.cfg = Config{Root: s.root, Hostname: "imgapi-test-1", Log: s.log, Faults: s.faults, Instance: "images0", Stall: 300 * time.Millisecond}
	s.start()
	return s
}

func (s *site) configure(conf map[string]any) {
	s.t.Helper()
	c := map[string]any{"port": 0, "address": "127.0.0.1"}
	for k, v := range conf {
		c[k] = v
	}
	b, err := json.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("etc/imgapi.config.json", string(b))
}

func (s *site) data(elem string) string { return filepath.Join(s.root, "data", "imgapi", elem) }

func (s *site) write(rel, text string) {
	s.t.Helper()
	p := s.data(rel)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	p, err := Start(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.p = p
	s.t.Cleanup(p.Kill)
}

func (s *site) restart() {
	s.t.Helper()
	s.p.Kill()
	s.start()
}

// answer is a response read to its end.
type answer struct {
	status int
	h      http.Header
	body   []byte
	err    error // of reading the body
}

func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return m
}

func (a answer) list(t *testing.T) []map[string]any {
	t.Helper()
	var l []map[string]any
	if err := json.Unmarshal(a.body, &l); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return l
}

func (a answer) code() string {
	var e struct{ Code string }
	_ = json.Unmarshal(a.body, &e) // no JSON, no code
	return e.Code
}

// request is one to make; signed ones get alice's signature.
type request struct {
	method, path string
	body         string
	ctype        string
	header       map[string]string
	unsigned     bool
}

// sign makes the Authorization header of the old draft over the Date header.
func sign(key *rsa.PrivateKey, user, algorithm, text string) string {
	var raw []byte
	var err error
	if algorithm == "rsa-sha1" {
		sum := sha1.Sum([]byte(text))
		raw, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:])
	} else {
		sum := sha256.Sum256([]byte(text))
		raw, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	}
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`Signature keyId="%s",algorithm="%s",headers="date",signature="%s"`, user, algorithm, base64.StdEncoding.EncodeToString(raw))
}

// try makes a request and may fail, as it does when the server dies.
func (s *site) try(rq request) (answer, error) {
	var body io.Reader
	if rq.body != "" {
		body = strings.NewReader(rq.body)
	}
	req, err := http.NewRequest(rq.method, "http://"+s.p.Addr()+rq.path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if rq.ctype == "" && strings.HasPrefix(rq.body, "{") || strings.HasPrefix(rq.body, "[") {
		rq.ctype = "application/json"
	}
	if rq.ctype != "" {
		req.Header.Set("Content-Type", rq.ctype)
	}
	if !rq.unsigned {
		date := time.Now().UTC().Format(http.TimeFormat)
		req.Header.Set("Date", date)
		req.Header.Set("Authorization", sign(testKey(), "alice", "rsa-sha256", "date: "+date))
	}
	for k, v := range rq.header {
		req.Header.Set(k, v)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b, err}, nil
}

func (s *site) do(rq request) answer {
	s.t.Helper()
	a, err := s.try(rq)
	if err != nil {
		s.t.Fatalf("%s %s: %v", rq.method, rq.path, err)
	}
	return a
}

// want makes a request and checks its status.
func (s *site) want(status int, rq request) answer {
	s.t.Helper()
	a := s.do(rq)
	if a.status != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", rq.method, rq.path, a.status, status, a.body)
	}
	return a
}

func get(path string) request        { return request{method: "GET", path: path, unsigned: true} }
func signedGet(path string) request  { return request{method: "GET", path: path} }
func post(path, body string) request { return request{method: "POST", path: path, body: body} }
func put(path, body string) request {
	return request{method: "PUT", path: path, body: body, ctype: "application/octet-stream"}
}
func del(path string) request { return request{method: "DELETE", path: path} }

// create makes an image and returns its uuid.
func (s *site) create(name string, extra string) string {
	s.t.Helper()
	public := s.p.set.Mode == "public"
	body := fmt.Sprintf(`{"name":%q,"version":"1.0.0","os":"smartos","type":"zone-dataset","owner":%q,"public":%v%s}`, name, owner, public, extra)
	return s.want(200, post("/images", body)).object(s.t)["uuid"].(string)
}

// active makes an image with a file and activates it.
func (s *site) active(name, content string) string {
	s.t.Helper()
	u := s.create(name, "")
	s.want(200, put("/images/"+u+"/file?compression=none", content))
	s.want(200, post("/images/"+u+"?action=activate", ""))
	return u
}

// importAt imports an active image with a publishing time.
func (s *site) importAt(uuid, name, published string) {
	s.t.Helper()
	s.want(200, post("/images/"+uuid+"?action=import", fmt.Sprintf(
		`{"v":2,"uuid":%q,"name":%q,"version":"1","os":"linux","type":"lx-dataset","owner":%q,"public":true,"published_at":%q,"state":"active","files":[]}`,
		uuid, name, owner, published)))
	s.want(200, put("/images/"+uuid+"/file?compression=gzip", "content of "+name))
	s.want(200, post("/images/"+uuid+"?action=activate", ""))
}

func sha(s string) string {
	sum := sha1.Sum([]byte(s))
	return fmt.Sprintf("%x", sum)
}

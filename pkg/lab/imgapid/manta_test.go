package imgapid

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/lab/mantastor"
	"golang.org/x/crypto/ssh"
)

const mantaRoot = "/bob/stor/images0"

// mantaSite is a site whose files live in a Manta that can be taken down.
type mantaSite struct {
	*site
	addr string
	dir  string
	key  *ecdsa.PrivateKey
	srv  *mantad.Server
	c    *mantastor.Client
}

func newMantaSite(t *testing.T, conf map[string]any) *mantaSite {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &mantaSite{dir: t.TempDir(), key: key, addr: "127.0.0.1:0", site: &site{t: t, root: t.TempDir(), log: &lockedBuffer{},
		faults: fault.NewSet(1, FaultKinds()...)}}
	m.up()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	m.write("etc/key", string(pem.EncodeToMemory(block)))
	all := map[string]any{"storageTypes": []string{"manta", "local"}, "manta": map[string]any{"url": "http://" + m.addr, "user": "bob",
		"key": "/data/imgapi/etc/key", "keyId": "SHA256:any", "baseDir": "images0"}}
	for k, v := range conf {
		all[k] = v
	}
	m.configure(all)
	m.write("etc/authkeys/local/alice.keys", publicLine(t))
	m.cfg = Config{Root: m.root, Hostname: "imgapi-test-1", Log: m.log, Faults: m.faults, Instance: "images0", Stall: 100 * time.Millisecond}
	m.c, err = mantastor.New(mantastor.Config{URL: "http://" + m.addr, Account: "bob", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.c.Close)
	m.start()
	<-m.p.KeysPolled()
	return m
}

// publicLine is the test key as key files have it.
func publicLine(t *testing.T) string {
	t.Helper()
	pub, err := ssh.NewPublicKey(testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(pub))
}

func (m *mantaSite) up() {
	m.t.Helper()
	l, err := net.Listen("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.addr = l.Addr().String()
	srv, err := mantad.New(mantad.Config{Dir: m.dir, Accounts: []mantad.Account{{Login: "bob"}}})
	if err != nil {
		m.t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(m.key.Public())
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := srv.AddKey("bob", "", string(ssh.MarshalAuthorizedKey(pub))); err != nil {
		m.t.Fatal(err)
	}
	m.srv = srv
	go srv.Serve(l, nil)
	m.t.Cleanup(func() { srv.Close() })
}

func (m *mantaSite) down() {
	m.t.Helper()
	if err := m.srv.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// object reads an object of the server's place in Manta; ok is false for a 404.
func (m *mantaSite) object(name string) (string, bool) {
	m.t.Helper()
	body, err := m.c.Get(m.t.Context(), mantaRoot+"/"+name)
	if mantastor.NotFound(err) {
		return "", false
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b), true
}

func (m *mantaSite) wantObject(name, want string) {
	m.t.Helper()
	if got, ok := m.object(name); !ok || got != want {
		m.t.Errorf("%s in Manta: %q (there: %v), want %q", name, got, ok, want)
	}
}

func (m *mantaSite) wantNoObject(name string) {
	m.t.Helper()
	if got, ok := m.object(name); ok {
		m.t.Errorf("%s in Manta: still there: %q", name, got)
	}
}

func (m *mantaSite) putObject(name, text string) {
	m.t.Helper()
	p := mantaRoot + "/" + name
	if err := m.c.MkdirAll(m.t.Context(), p[:strings.LastIndexByte(p, '/')]); err != nil {
		m.t.Fatal(err)
	}
	if err := m.c.Put(m.t.Context(), p, strings.NewReader(text), mantastor.Object{Size: int64(len(text))}); err != nil {
		m.t.Fatal(err)
	}
}

// stor is the storage the manifest on disk names for the image's file.
func (m *mantaSite) stor(uuid string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.data("manifests/" + uuid + ".raw"))
	if err != nil {
		m.t.Fatal(err)
	}
	var raw struct{ Files []struct{ Stor string } }
	if err := json.Unmarshal(b, &raw); err != nil || len(raw.Files) != 1 {
		m.t.Fatalf("%s %v", b, err)
	}
	return raw.Files[0].Stor
}

func in(uuid, name string) string { return "images/" + uuid[:3] + "/" + uuid + "/" + name }

func (m *mantaSite) local(uuid string) []string {
	m.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(m.data(in(uuid, "x"))))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func png() request {
	return request{method: "PUT", body: "a picture", ctype: "image/png"}
}

func TestNewFilesAndIconsGoToMantaAndComeBackFromThere(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.active("a", "content")
	icon := png()
	icon.path = "/images/" + u + "/icon"
	m.want(200, icon)
	m.wantObject(in(u, "file0"), "content")
	m.wantObject(in(u, "icon"), "a picture")
	if got := m.local(u); got != nil || m.stor(u) != "manta" {
		t.Errorf("local %v, stor %s", got, m.stor(u))
	}
	a := m.want(200, get("/images/"+u+"/file"))
	if string(a.body) != "content" || a.h.Get("Etag") != sha("content") {
		t.Errorf("%q %v", a.body, a.h)
	}
	if a := m.want(200, get("/images/"+u+"/icon")); string(a.body) != "a picture" {
		t.Errorf("%q", a.body)
	}
	m.want(400, post("/images/"+u+"?action=change-stor&stor=local", "")) // an icon
	m.restart()
	m.want(200, get("/images/"+u+"/file"))
	m.want(200, del("/images/"+u+"/icon"))
	m.wantNoObject(in(u, "icon"))
	m.wantObject(in(u, "file0"), "content")
	m.want(204, del("/images/"+u))
	m.wantNoObject(in(u, "file0"))
	if _, err := m.c.List(t.Context(), mantaRoot+"/images/"+u[:3]+"/"+u); !mantastor.NotFound(err) {
		t.Errorf("the image's directory: %v", err)
	}
	if _, err := m.c.List(t.Context(), mantaRoot+"/images/"+u[:3]); err != nil {
		t.Errorf("the shard directory: %v", err)
	}
	v := m.create("b", "")
	m.want(200, put("/images/"+v+"/file?compression=none&storage=local", "here"))
	if got := m.local(v); !slices.Equal(got, []string{"file0"}) || m.stor(v) != "local" {
		t.Errorf("storage=local: %v %s", got, m.stor(v))
	}
	m.want(200, put("/images/"+v+"/file?compression=none&storage=", "here too")) // an empty name is no storage
	if m.stor(v) != "local" {
		t.Error("storage= went to Manta")
	}
}

func TestARefusedUploadToMantaHasReplacedTheFileAlready(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.create("a", "")
	m.want(200, put("/images/"+u+"/file?compression=none", "good"))
	m.want(400, put("/images/"+u+"/file?compression=none&sha1="+sha("other"), "evil"))
	m.wantObject(in(u, "file0"), "evil")
	if a := m.want(200, get("/images/"+u+"/file")); string(a.body) != "evil" || a.h.Get("Etag") != sha("good") {
		t.Errorf("%q %v: the manifest is the old one, the bytes are new", a.body, a.h)
	}
	// an aborted one replaces nothing
	conn, err := net.Dial("tcp", m.p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	io.WriteString(conn, "PUT /images/"+u+"/file?compression=none HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nDate: "+date+
		"\r\nAuthorization: "+sign(testKey(), "alice", "rsa-sha256", "date: "+date)+"\r\n\r\nhalf of it")
	time.Sleep(100 * time.Millisecond)
	conn.Close()
	time.Sleep(100 * time.Millisecond)
	m.wantObject(in(u, "file0"), "evil")
	m.want(200, get("/images/"+u))
}

func TestChangeStorToMantaMovesAndFromMantaLosesTheImage(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.create("a", "")
	m.want(200, put("/images/"+u+"/file?compression=none&storage=local", "content"))
	m.want(200, post("/images/"+u+"?action=activate", ""))
	a := m.want(200, post("/images/"+u+"?action=change-stor&stor=manta", ""))
	if f := a.object(t)["files"].([]any)[0].(map[string]any); f["stor"] != "manta" || a.h.Get("Etag") != "" {
		t.Errorf("%v %v", f, a.h)
	}
	m.wantObject(in(u, "file0"), "content")
	if got := m.local(u); got != nil || m.stor(u) != "manta" {
		t.Errorf("local %v, stor %s", got, m.stor(u))
	}
	m.want(403, post("/images/"+u+"?action=change-stor&stor=local&account="+owner, ""))
	m.want(200, post("/images/"+u+"?action=change-stor&stor=manta", "")) // where it is: nothing to do
	m.want(200, post("/images/"+u+"?action=change-stor&stor=local", ""))
	m.wantNoObject(in(u, "file0"))
	left := m.local(u)
	if len(left) != 1 || !strings.HasPrefix(left[0], "file0.") || m.stor(u) != "local" {
		t.Fatalf("local %v, stor %s", left, m.stor(u))
	}
	if a := m.want(500, get("/images/"+u+"/file")); a.h.Get("Content-Length") != "7" || len(a.body) != 0 || a.err == nil {
		t.Errorf("%v %q %v", a.h, a.body, a.err)
	}
	// the repair
	if err := os.Rename(m.data(in(u, left[0])), m.data(in(u, "file0"))); err != nil {
		t.Fatal(err)
	}
	if a := m.want(200, get("/images/"+u+"/file")); string(a.body) != "content" {
		t.Errorf("%q", a.body)
	}
	// a damaged local file does not get to Manta
	m.write(in(u, "file0"), "c0ntent")
	if a := m.want(500, post("/images/"+u+"?action=change-stor&stor=manta", "")); a.code() != "InternalError" || m.stor(u) != "local" {
		t.Errorf("%s, stor %s", a.body, m.stor(u))
	}
}

func TestWithMantaDownListsAnswerAndFilesHang(t *testing.T) {
	m := newMantaSite(t, nil)
	u, v := m.active("a", "content"), m.create("b", "")
	m.down()
	m.p.Kill()
	start := time.Now()
	m.start() // does not wait for Manta
	if d := time.Since(start); d > 200*time.Millisecond {
		t.Errorf("started in %v", d)
	}
	if l := m.want(200, get("/images")).list(t); len(l) != 1 {
		t.Errorf("%v", l)
	}
	start = time.Now()
	a := m.want(500, get("/images/"+u+"/file"))
	if d := time.Since(start); d < m.cfg.patience()+m.cfg.Stall || a.h.Get("Content-Length") != "7" || len(a.body) != 0 || a.err == nil {
		t.Errorf("after %v: %v %q %v", d, a.h, a.body, a.err)
	}
	start = time.Now()
	if a := m.want(500, put("/images/"+v+"/file?compression=none", "x")); a.code() != "InternalError" || !strings.Contains(string(a.body), "ECONNREFUSED") || time.Since(start) < m.cfg.patience() {
		t.Errorf("%s after %v", a.body, time.Since(start))
	}
	if a := m.want(500, del("/images/"+u)); a.code() != "InternalError" {
		t.Errorf("%s", a.body)
	}
	m.want(404, get("/images/"+u)) // gone all the same
	m.up()
	m.wantObject(in(u, "file0"), "content") // a zombie
	m.want(200, put("/images/"+v+"/file?compression=none", "x"))
}

func TestAFileMissingOrShortInMantaLooksLikeOneOnDisk(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.active("a", "content")
	m.putObject(in(u, "file0"), "con")
	if a := m.want(200, get("/images/"+u+"/file")); string(a.body) != "con" || a.err == nil {
		t.Errorf("%q %v", a.body, a.err)
	}
	m.putObject(in(u, "file0"), "content and more")
	if a := m.want(200, get("/images/"+u+"/file")); string(a.body) != "content" || a.err != nil {
		t.Errorf("%q %v", a.body, a.err)
	}
	if err := m.c.Delete(t.Context(), mantaRoot+"/"+in(u, "file0")); err != nil {
		t.Fatal(err)
	}
	if a := m.want(500, get("/images/"+u+"/file")); len(a.body) != 0 || a.err == nil {
		t.Errorf("%q %v", a.body, a.err)
	}
}

func TestTheArchiveMovesToManta(t *testing.T) {
	m := newMantaSite(t, nil)
	m.write("archive/abc/junk", "x")
	m.p.Kill()
	m.cfg.ArchiveEvery = 30 * time.Millisecond
	m.start()
	u := m.create("a", "")
	file := m.data("archive/" + u[:3] + "/" + u + ".json")
	waitFor(t, "the move", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
	got, ok := m.object("archive/" + u[:3] + "/" + u + ".json")
	if !ok || !strings.Contains(got, `"uuid": "`+u+`"`) {
		t.Errorf("%v %s", ok, got)
	}
	waitFor(t, "the shard directory", func() bool { _, err := os.Stat(filepath.Dir(file)); return os.IsNotExist(err) })
	if _, err := os.Stat(m.data("archive/abc/junk")); err != nil {
		t.Errorf("what does not belong there: %v", err)
	}
	m.down()
	m.want(200, post("/images/"+u+"?action=update", `{"description":"d"}`))
	time.Sleep(100 * time.Millisecond)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("removed while Manta is down: %v", err)
	}
}

func TestMantaConfigurationsThatDoNotStart(t *testing.T) {
	m := newMantaSite(t, nil)
	m.p.Kill()
	manta := map[string]any{"url": "http://" + m.addr, "user": "bob", "key": "/data/imgapi/etc/key", "keyId": "x"}
	noKey := map[string]any{"url": "http://" + m.addr, "user": "bob", "key": "/none", "keyId": "x"}
	for _, c := range []struct {
		conf   map[string]any
		status int
	}{
		{map[string]any{"storageTypes": []string{"manta"}, "manta": manta}, 134},
		{map[string]any{"storageTypes": []string{"manta", "local"}, "manta": noKey}, 1},
		{map[string]any{"manta": map[string]any{"url": "x"}}, 2},
	} {
		m.configure(c.conf)
		_, err := Start(m.cfg)
		if e, ok := err.(*ExitError); !ok || e.Status != c.status {
			t.Errorf("%v: %v, want exit %d", c.conf, err, c.status)
		}
	}
}

func TestABigFilePassesThroughBothWays(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.create("big", "")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	m.want(200, put("/images/"+u+"/file?compression=none", string(content)))
	if a := m.want(200, get("/images/"+u+"/file")); !bytes.Equal(a.body, content) {
		t.Errorf("%d bytes came back", len(a.body))
	}
}

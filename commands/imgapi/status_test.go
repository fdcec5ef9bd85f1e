package imgapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/ui"
	"golang.org/x/crypto/ssh"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// statusNow is the clock of these tests: only what is on disk is measured by it.
var statusNow = time.Date(2026, 11, 22, 13, 2, 0, 0, time.UTC)

// site is an instance as a zone has it: its data, the stock server, a TLS front
// and a Manta, all on loopback.
type site struct {
	t        *testing.T
	root     string
	port     int
	server   *imgapid.Process
	public   string
	manta    *mantad.Server
	mantaURL string
	keyLine  string
	svcs     string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, root: t.TempDir(), port: freePort(t)}
	s.startManta()
	s.makeKey()
	s.write("data/imgapi/etc/imgapi.config.json", fmt.Sprintf(`{"mode":"public","port":%d,"address":"127.0.0.1","manta":{"url":%q,"user":"bob",
		"key":"/data/imgapi/etc/imgapi-images0-4dad5922.id_ecdsa","keyId":"","insecure":true,"baseDir":"myimages"}}`, s.port, s.mantaURL), 0)
	for i := range 3 {
		s.image(i)
	}
	s.write("var/svc/setup_complete", "", 48*time.Hour)
	s.write("var/log/triton/imgapi_images0_20261122T130002.log", "", 0)
	s.write("var/log/triton/imgapi-backup_images0_20261122T130002.log", "", 0)
	s.write("var/spool/cron/crontabs/root", "17 * * * * /opt/smartdc/imgapi/bin/imgapi-standalone-backup -y\n", 0)
	s.svcs = filepath.Join(t.TempDir(), "svcs")
	s.services("")
	s.startServer()
	s.startFront()
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(rel, text string, ago time.Duration) {
	s.t.Helper()
	path := filepath.Join(s.root, rel)
	s.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600),
		os.Chtimes(path, statusNow.Add(-ago), statusNow.Add(-ago))))
}

// services makes the svcs command print text.
func (s *site) services(text string) {
	s.t.Helper()
	s.must(os.WriteFile(s.svcs, []byte("#!/bin/sh\ncat <<'E'\n"+text+"E\n"), 0o755))
}

func (s *site) image(i int) {
	s.t.Helper()
	s.write(fmt.Sprintf("data/imgapi/manifests/%s.raw", imageUUID(i)), fmt.Sprintf(`{"v":2,"uuid":%q,"owner":"00000000-0000-0000-0000-000000000000",
		"name":"base","version":"1.%d","state":"active","activated":true,"disabled":false,"public":true,"published_at":"2024-01-02T03:04:05Z",
		"type":"zone-dataset","os":"smartos","acl":[],"tags":[],"files":[{"sha1":"%040d","size":1024,"compression":"gzip","contentMD5":"x","stor":"local"}]}`,
		imageUUID(i), i, i), time.Hour)
}

func imageUUID(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", i) }

func (s *site) makeKey() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	block, err := ssh.MarshalPrivateKey(key, "imgapi-images0")
	s.must(err)
	pub, err := ssh.NewPublicKey(&key.PublicKey)
	s.must(err)
	s.keyLine = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	const base = "data/imgapi/etc/imgapi-images0-4dad5922.id_ecdsa"
	s.write(base, string(pem.EncodeToMemory(block)), 0)
	s.write(base+".pub", s.keyLine+" imgapi-images0\n", 0)
}

// certificate is self-signed, as the stock setup makes it; the same goes to
// cert.pem.
func (s *site) certificate(until time.Time) tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "*"}, NotBefore: statusNow.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	s.must(err)
	s.write("data/imgapi/etc/cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *site) startServer() {
	s.t.Helper()
	p, err := imgapid.Start(imgapid.Config{Root: s.root, Log: io.Discard, Hostname: "images0"})
	s.must(err)
	s.server = p
	s.t.Cleanup(p.Kill)
}

func (s *site) startFront() {
	s.t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{s.certificate(statusNow.Add(200 * 24 * time.Hour))}})
	s.must(err)
	target, err := url.Parse("http://127.0.0.1:" + strconv.Itoa(s.port))
	s.must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(503)
		io.WriteString(w, "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n")
	}
	srv := &http.Server{Handler: proxy}
	go srv.Serve(l)
	s.t.Cleanup(func() { srv.Close() })
	s.public = "https://" + l.Addr().String()
}

func (s *site) startManta() {
	s.t.Helper()
	m, err := mantad.New(mantad.Config{Dir: s.t.TempDir(), Accounts: []mantad.Account{{Login: "bob"}}})
	s.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	go m.Serve(l, nil)
	s.t.Cleanup(func() { m.Close() })
	s.manta, s.mantaURL = m, "http://"+l.Addr().String()
}

// addKey is what an operator does after the first 403.
func (s *site) addKey() {
	s.t.Helper()
	_, err := s.manta.AddKey("bob", "", s.keyLine)
	s.must(err)
}

// restored is how things are after a restore and a backup.
func (s *site) restored() {
	s.addKey()
	s.write("data/imgapi/run/restored.marker", "restored at 2026-11-21T10:00:00\n", 0)
	s.write("data/imgapi/run/backup.status", "0\n", 44*time.Minute)
	s.write("data/imgapi/run/logupload.status", "0\n", time.Minute)
	s.must(s.mkdir())
}

// status runs the command and returns its exit code and streams.
func (s *site) status(args ...string) (int, string, string) {
	s.t.Helper()
	return s.statusContext(s.t.Context(), args...)
}

func (s *site) statusContext(ctx context.Context, args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	env := &cli.Env{
		UI:     ui.New(ui.Config{In: strings.NewReader(""), Out: &out, Err: &errs, Term: "dumb"}),
		Getenv: func(k string) string { return map[string]string{"IMGAPI_URL": s.public, "TRITONOPS_ROOT": s.root}[k] },
		Now:    func() time.Time { return statusNow }, Name: "imgapiadm", Version: "test", Globals: &cli.Globals{},
	}
	root := &cobra.Command{Use: "tritonops", SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.Setup() }}
	env.Globals.AddFlags(root)
	root.AddCommand(New(env))
	root.SetArgs(append([]string{"imgapi", "status", "--svcs-cmd", s.svcs + " -x"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(ctx)
	return env.Report(err), out.String(), errs.String()
}

// normal replaces what differs from run to run.
func (s *site) normal(text string) string {
	for _, r := range [][2]string{
		{s.root, "/ROOT"}, {filepath.Dir(s.svcs), "/BIN"}, {s.public, "https://images.example.com"}, {strings.TrimPrefix(s.public, "https://"), "images.example.com:443"},
		{s.mantaURL, "https://manta.example.com"}, {strings.TrimPrefix(s.mantaURL, "http://"), "manta.example.com"},
		{"127.0.0.1:" + strconv.Itoa(s.port), "127.0.0.1:8080"}, {s.keyLine, "ecdsa-sha2-nistp256 AAAA"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	for _, r := range [][2]string{
		{`sha256 [0-9a-f]{16}`, "sha256 0123456789abcdef"}, {`"elapsed_ms": \d+`, `"elapsed_ms": 0`}, {`"elapsed_ms":\d+`, `"elapsed_ms":0`},
		{`request [0-9a-f-]{36}`, "request UUID"}, {`([0-9a-f]{2}:){15}[0-9a-f]{2}`, "MD5"},
		{`\d+ % used, \S+ \S+ free`, "7 % used, 9.0 GiB free"}, {`data/imgapi: .* used of [0-9.]+ \S+B`, "data/imgapi: 1.0 GiB used of 10.0 GiB"}, {`\d+ % of \d+ inodes`, "1 % of 1000 inodes"},
		{`127\.0\.0\.1:\d{5}->`, "127.0.0.1:PORT->"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}

// golden compares normalised output with testdata/<name>.
func (s *site) golden(name, got string) {
	s.t.Helper()
	path := filepath.Join("testdata", name)
	got = s.normal(got)
	if *update {
		s.must(errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)))
		return
	}
	want, err := os.ReadFile(path)
	s.must(err)
	if got != string(want) {
		s.t.Errorf("%s differs (rewrite with -update):\n%s\nwant:\n%s", path, got, want)
	}
}

func decode(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	var rep struct{ Checks []map[string]any }
	if err := json.Unmarshal([]byte(text), &rep); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	checks := map[string]map[string]any{}
	for _, c := range rep.Checks {
		checks[c["name"].(string)] = c
	}
	return checks
}

// mkdir makes the Manta area, as a first backup does.
func (s *site) mkdir() error {
	inst, err := instance.Load(s.root, "")
	if err != nil {
		return err
	}
	env := &cli.Env{UI: ui.New(ui.Config{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}), Getenv: func(string) string { return "" }}
	c, _, err := newMantaClient(s.t.Context(), env, inst, &mantaFlags{}, patient(0))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.MkdirAll(s.t.Context(), inst.Config.Manta.RootDir)
}

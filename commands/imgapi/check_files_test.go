package imgapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/manta"
	"github.com/tritonops/tritonops/pkg/manta/sshkey"
	"github.com/tritonops/tritonops/pkg/ui"
)

const (
	uuidLocal = "a1b2c3d4-0000-4000-8000-000000000001"
	uuidManta = "b1b2c3d4-0000-4000-8000-000000000002"
	uuidChild = "c1b2c3d4-0000-4000-8000-000000000003"
)

// store is an instance's root with a Manta that it may use.
type storage struct {
	t      *testing.T
	root   string
	server *mantad.Server
	faults *fault.Set
	client *manta.Client
	fp     string // of the key the account has
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{t: t, root: t.TempDir(), faults: fault.NewSet(1)}
	var err error
	s.server, err = mantad.New(mantad.Config{Dir: t.TempDir(), Accounts: []mantad.Account{{Login: "bob"}}, Faults: s.faults})
	s.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	go s.server.Serve(l, nil)
	t.Cleanup(func() { s.server.Close() })

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	der, err := x509.MarshalECPrivateKey(private)
	s.must(err)
	key, err := sshkey.New(private, "test")
	s.must(err)
	s.write("data/imgapi/etc/key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
	s.write("data/imgapi/etc/key.pub", []byte(key.AuthorizedKey()+" images0\n"), 0o644)
	s.fp, err = s.server.AddKey("bob", "", key.AuthorizedKey())
	s.must(err)
	s.write("data/imgapi/etc/imgapi.config.json", fmt.Appendf(nil,
		`{"storageTypes":["manta","local"],"manta":{"url":"http://%s","user":"bob","key":"/data/imgapi/etc/key","keyId":%q}}`, l.Addr(), key.SHA256()), 0o644)
	signer, err := manta.NewSigner(key, "bob", "")
	s.must(err)
	s.client, err = manta.New(manta.Config{URL: "http://" + l.Addr().String(), Account: "bob", Signer: signer})
	s.must(err)
	t.Cleanup(s.client.Close)
	return s
}

func (s *storage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *storage) write(rel string, b []byte, perm os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.root, rel)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, b, perm))
}

// image writes a manifest that describes want, and stores got.
func (s *storage) image(uuid, origin, stor string, want, got []byte) {
	s.t.Helper()
	sum, md := sha1.Sum(want), md5.Sum(want)
	if origin != "" {
		origin = fmt.Sprintf(`"origin":%q,`, origin)
	}
	s.write("data/imgapi/manifests/"+uuid+".raw", fmt.Appendf(nil, `{"v":2,"uuid":%q,"owner":%q,"name":"img","version":"1.0",
"state":"active","disabled":false,"activated":true,"public":true,"published_at":"2016-07-28T19:03:19.219Z","type":"zone-dataset","os":"smartos",%s
"files":[{"sha1":"%x","size":%d,"compression":"none","contentMD5":%q,"stor":%q}]}`,
		uuid, instance.UnsetOwner, origin, sum, len(want), base64.StdEncoding.EncodeToString(md[:]), stor), 0o644)
	if stor == "local" {
		s.write("data/imgapi/"+instance.RelFile(uuid, "file0"), got, 0o644)
	} else if got != nil {
		_, err := s.client.Put(s.t.Context(), "/bob/stor/imgapi/"+instance.RelFile(uuid, "file0"), manta.Bytes(got), manta.PutOptions{Parents: true})
		s.must(err)
	}
}

// checkFiles runs the command and returns its exit code, streams and, with -j,
// its report.
func (s *storage) checkFiles(args ...string) (int, string, checkReport) {
	s.t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{
		UI:     ui.New(ui.Config{In: strings.NewReader(""), Out: &out, Err: &errs, Term: "dumb"}),
		Getenv: func(k string) string { return map[string]string{"TRITONOPS_ROOT": s.root}[k] },
		Now:    time.Now, Name: "imgapiadm", Version: "test", Globals: &cli.Globals{},
	}
	root := &cobra.Command{Use: "tritonops", SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.Setup() }}
	env.Globals.AddFlags(root)
	root.AddCommand(New(env))
	root.SetArgs(append([]string{"imgapi", "check-files", "-q"}, args...))
	code := env.Report(root.ExecuteContext(s.t.Context()))
	var r checkReport
	if strings.HasPrefix(out.String(), "{") {
		s.must(json.Unmarshal(out.Bytes(), &r))
	}
	return code, out.String() + errs.String(), r
}

func TestFilesInMantaAreReadAndRememberedByEtag(t *testing.T) {
	s := newStorage(t)
	content := bytes.Repeat([]byte("image "), 100_000)
	s.image(uuidLocal, "", "local", content, content)
	s.image(uuidManta, uuidLocal, "manta", content, content)
	if code, text, r := s.checkFiles("-j"); code != 0 || r.Summary.OK != 2 || r.Summary.Cached != 0 {
		t.Fatalf("exit %d: %s", code, text)
	}
	s.server.ResetStats()
	if code, text, r := s.checkFiles("-j"); code != 0 || r.Summary.Cached != 2 {
		t.Fatalf("exit %d: %s", code, text)
	}
	if st := s.server.Stats(); st.Total != 1 || st.Methods["HEAD"] != 1 {
		t.Errorf("a known file cost %+v", st)
	}
	damaged := bytes.Clone(content)
	damaged[1000] ^= 1
	s.image(uuidManta, uuidLocal, "manta", content, damaged)
	code, text, r := s.checkFiles("-j")
	if code != 3 || r.Summary.Corrupt != 1 || len(r.Files) != 1 || r.Files[0].UUID != uuidManta || !strings.HasPrefix(r.Files[0].Reasons[0], "sha1 is ") {
		t.Errorf("exit %d: %s", code, text)
	}
}

func TestAFileMissingInMantaIsNotTakenForAnUnreachableOne(t *testing.T) {
	s := newStorage(t)
	s.image(uuidManta, "", "manta", []byte("x"), nil)
	s.image(uuidChild, uuidManta, "manta", []byte("abc"), []byte("abcd"))
	code, text, r := s.checkFiles("-j")
	if code != 3 || r.Summary.Missing != 1 || r.Summary.Corrupt != 1 {
		t.Fatalf("exit %d: %s", code, text)
	}
	if f := r.Files[0]; f.State != "missing" || len(f.Dependents) != 2 || f.Dependents[0].UUID != uuidChild || f.Fix[0] != "imgapi-cli delete "+uuidChild {
		t.Errorf("%+v", f)
	}
	if code, text, _ := s.checkFiles("--simple"); code != 3 || !strings.Contains(text, "size is 4 bytes, the manifest says 3") {
		t.Errorf("exit %d: %s", code, text)
	}
}

func TestARefusedKeyIsExplainedAndMantaIsNotAskedForEver(t *testing.T) {
	s := newStorage(t)
	s.image(uuidLocal, "", "local", []byte("x"), []byte("x"))
	for n := range 20 {
		s.image(fmt.Sprintf("%08x-0000-4000-8000-000000000000", n), "", "manta", []byte("x"), []byte("x"))
	}
	if ok, err := s.server.RemoveKey("bob", "", s.fp); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.server.ResetStats()
	code, text, _ := s.checkFiles("-p", "1")
	if code != 3 || !strings.Contains(text, "20 image files could not be checked") || !strings.Contains(text, "images0' | triton -a bob key add -") {
		t.Errorf("exit %d: %s", code, text)
	}
	if st := s.server.Stats(); st.Total > 2*mantaGivesUp {
		t.Errorf("%d requests with a refused key", st.Total)
	}
}

func TestATransferThatBreaksIsNotCalledCorruption(t *testing.T) {
	s := newStorage(t)
	content := bytes.Repeat([]byte("image "), 100_000)
	s.image(uuidLocal, "", "local", []byte("x"), []byte("x"))
	s.image(uuidManta, "", "manta", content, content)
	for _, f := range []fault.Fault{{Kind: fault.Corrupt}, {Kind: fault.Truncate, Bytes: 1}, {Kind: fault.Status}} {
		added, err := s.faults.Add(f)
		s.must(err)
		code, text, r := s.checkFiles("-j")
		if code != 3 || r.Summary.Unreadable != 1 || r.Summary.Corrupt != 0 {
			t.Errorf("%s: exit %d: %s", f.Kind, code, text)
		}
		s.faults.Remove(added.ID)
	}
	if code, text, _ := s.checkFiles(); code != 0 {
		t.Errorf("afterwards: exit %d: %s", code, text)
	}
}

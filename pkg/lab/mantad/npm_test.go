package mantad

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// npm runs the service's own clients against the server, over TLS.
type npm struct {
	t       *testing.T
	l       *lab
	modules string
	home    string
	env     []string
}

func newNPM(t *testing.T, kind string) *npm {
	t.Helper()
	modules := os.Getenv("TRITONOPS_PEERS")
	if modules == "" {
		t.Skip("TRITONOPS_PEERS does not name a node_modules directory with manta and manta-sync")
	}
	if _, err := os.Stat(filepath.Join(modules, "manta", "bin", "mls")); err != nil {
		t.Skipf("no manta in TRITONOPS_PEERS: %v", err)
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node on PATH")
	}
	l := newLab(t)
	k := newSigner(t, kind)
	if _, err := l.s.AddKey(owner, "", k.public); err != nil {
		t.Fatal(err)
	}
	n := &npm{t: t, l: l, modules: modules, home: t.TempDir()}
	block, err := ssh.MarshalPrivateKey(k.private, "")
	if err != nil {
		t.Fatal(err)
	}
	n.write(".ssh/id_"+kind, string(pem.EncodeToMemory(block)))
	n.write(".ssh/id_"+kind+".pub", k.public)
	n.env = []string{
		"HOME=" + n.home, "PATH=" + os.Getenv("PATH"), "MANTA_URL=https://" + l.tls, "MANTA_USER=" + owner,
		"MANTA_KEY_ID=" + k.fp, "MANTA_TLS_INSECURE=1", "NODE_NO_WARNINGS=1",
	}
	return n
}

func (n *npm) write(name, text string) string {
	n.t.Helper()
	p := filepath.Join(n.home, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return p
}

// run runs a command of the package and wants exit 0.
func (n *npm) run(args ...string) string {
	n.t.Helper()
	out, err := n.try(args...)
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (n *npm) try(args ...string) (string, error) {
	n.t.Helper()
	script := filepath.Join(n.modules, "manta", "bin", args[0])
	if args[0] == "manta-sync" {
		script = filepath.Join(n.modules, ".bin", "manta-sync")
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args[1:]...)...)
	cmd.Env = n.env
	cmd.Dir = n.home
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func TestNodeMantaCommandsWork(t *testing.T) {
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			n := newNPM(t, kind)
			f := n.write("a b+é.txt", "hello from node\n")
			n.run("mmkdir", "-p", "/admin/stor/x/y/z")
			n.run("mput", "-f", f, "-H", "m-foo: bar", "--md5", "-c", "3", "/admin/stor/x/y/z")
			if out := n.run("mls", "/admin/stor/x/y/z"); strings.TrimSpace(out) != "a b+é.txt" {
				t.Errorf("mls: %q", out)
			}
			if out := n.run("mget", "/admin/stor/x/y/z/a b+é.txt"); !strings.Contains(out, "hello from node\n") {
				t.Errorf("mget: %q", out)
			}
			info := n.run("minfo", "/admin/stor/x/y/z/a b+é.txt")
			for _, want := range []string{"m-foo: bar", "durability-level: 3", "content-md5: " + md5Text("hello from node\n"), "x-server-name", "x-response-time"} {
				if !strings.Contains(info, want) {
					t.Errorf("minfo: no %q in\n%s", want, info)
				}
			}
			// The parent is missing: the client makes it and sends its file then.
			n.run("mput", "-p", "-f", f, "/admin/stor/p/q/r.txt")
			if b := n.l.do("GET", "/admin/stor/p/q/r.txt").body; b != "hello from node\n" {
				t.Errorf("mput -p stored %q", b)
			}
			n.run("mrm", "/admin/stor/p/q/r.txt")
			n.run("mrm", "-r", "/admin/stor/x")
			if got := n.l.names("/admin/stor"); len(got) != 1 || got[0] != "p" {
				t.Errorf("left: %v", got)
			}
			if out, err := n.try("mls", "/admin/stor/none"); err == nil || !strings.Contains(out, "ResourceNotFound") {
				t.Errorf("mls of nothing: %v %s", err, out)
			}
			if out, err := n.try("mput", "-f", f, "-H", "if-none-match: *", "/admin/stor/new"); err == nil || !strings.Contains(out, "precondition not met") {
				t.Errorf("mput with a star: %v %s", err, out)
			}
		})
	}
}

func TestNodeMantaListsLongDirectories(t *testing.T) {
	n := newNPM(t, "rsa")
	for i := range 2500 {
		if err := n.l.s.store.put(fmt.Sprintf("/admin/stor/o%05d", i), &entry{id: newID(), ctype: "text/plain"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Fields(n.run("mls", "/admin/stor"))
	if len(lines) != 2500 || lines[2499] != "o02499" {
		t.Errorf("%d lines", len(lines))
	}
}

func TestMantaSyncGoesUpAndDownAndDeletes(t *testing.T) {
	n := newNPM(t, "rsa")
	if _, err := os.Stat(filepath.Join(n.modules, ".bin", "manta-sync")); err != nil {
		t.Skipf("no manta-sync in TRITONOPS_PEERS: %v", err)
	}
	random := make([]byte, 300_000)
	rand.Read(random)
	files := map[string]string{"a.txt": "a", "empty": "", "d/b.txt": "bb", "d/e/c.bin": string(random), "d/e/f/g": "g"}
	for name, text := range files {
		n.write("up/"+name, text)
	}
	n.run("manta-sync", filepath.Join(n.home, "up"), "/admin/stor/base")
	for name, text := range files {
		if a := n.l.do("GET", "/admin/stor/base/"+name); a.status != 200 || a.body != text {
			t.Errorf("%s: %d, %d bytes, want %d", name, a.status, len(a.body), len(text))
		}
	}
	n.run("manta-sync", "-r", "/admin/stor/base", filepath.Join(n.home, "down"))
	got := map[string]string{}
	err := filepath.WalkDir(filepath.Join(n.home, "down"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(filepath.Join(n.home, "down"), p)
		got[rel] = string(b)
		return err
	})
	if err != nil || len(got) != len(files) {
		t.Errorf("down: %d files, want %d: %v", len(got), len(files), err)
	}
	for name, text := range files {
		if got[name] != text {
			t.Errorf("down: %s: %d bytes, want %d", name, len(got[name]), len(text))
		}
	}
	os.Remove(filepath.Join(n.home, "up/d/b.txt"))
	n.write("up/a.txt", "longer")
	n.run("manta-sync", "--delete", filepath.Join(n.home, "up"), "/admin/stor/base")
	if a := n.l.do("HEAD", "/admin/stor/base/d/b.txt"); a.status != 404 {
		t.Errorf("--delete left it: %d", a.status)
	}
	if a := n.l.do("GET", "/admin/stor/base/a.txt"); a.body != "longer" {
		t.Errorf("changed file: %q", a.body)
	}
}

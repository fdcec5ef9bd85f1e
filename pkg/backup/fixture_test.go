package backup

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/instance"
)

// world is one instance with data on a real disk and a store.
type world struct {
	t    *testing.T
	root string
	inst *instance.Instance
	st   store.Store
	name string
}

func newWorld(t *testing.T, images int) *world {
	t.Helper()
	st, err := filestore.New(tempDir(t), filestore.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, st, "images0", images)
}

// tempDir is in memory where the system has such a place: thousands of synced
// writes are the cost of these tests otherwise.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tritonops-test-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newWorldOn(t *testing.T, st store.Store, name string, images int) *world {
	t.Helper()
	w := &world{t: t, root: tempDir(t), st: st, name: name}
	data := filepath.Join(w.root, "data", "imgapi")
	for _, d := range []string{"manifests", "images", "etc/authkeys/local", "run"} {
		w.must(os.MkdirAll(filepath.Join(data, d), 0o755))
	}
	w.write("etc/imgapi.config.json", []byte(`{"mode":"public","manta":{"url":"https://127.0.0.1:1","user":"bob","key":"/data/imgapi/etc/k","keyId":"aa","baseDir":"images"},"ufds":{"bindPassword":"s3cret"}}`))
	w.write("etc/authkeys/local/alice.keys", []byte("ssh-rsa AAAA alice\n"))
	var err error
	w.inst, err = instance.Load(w.root, "")
	w.must(err)
	for i := range images {
		w.image(i, fmt.Sprintf("content of image %d", i))
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) path(rel string) string { return filepath.Join(w.inst0(), filepath.FromSlash(rel)) }

func (w *world) inst0() string { return filepath.Join(w.root, "data", "imgapi") }

func (w *world) write(rel string, b []byte) {
	w.t.Helper()
	p := w.path(rel)
	w.must(os.MkdirAll(filepath.Dir(p), 0o755))
	w.must(os.WriteFile(p, b, 0o644))
	// An hour old: nothing here is too young to be trusted once it was hashed.
	old := time.Now().Add(-time.Hour)
	w.must(os.Chtimes(p, old, old))
}

func uuidOf(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", i*7919+0x1000000, i) }

// image writes an active image with a local file, as the server leaves it.
func (w *world) image(i int, content string) string {
	w.t.Helper()
	u := uuidOf(i)
	w.write("images/"+u[:3]+"/"+u+"/file0", []byte(content))
	w.manifest(i, content, "")
	return u
}

func (w *world) manifest(i int, content, description string) {
	w.t.Helper()
	u := uuidOf(i)
	s, m := sha1.Sum([]byte(content)), md5.Sum([]byte(content))
	b, err := json.MarshalIndent(map[string]any{
		"v": 2, "uuid": u, "owner": "00000000-0000-0000-0000-000000000000", "name": fmt.Sprintf("image-%d", i), "version": "1.0.0",
		"description": description, "public": true, "activated": true, "disabled": false, "os": "smartos", "type": "zone-dataset",
		"published_at": "2016-09-06T22:05:49.000Z", "acl": []string{}, "tags": []string{},
		"files": []map[string]any{{
			"sha1": fmt.Sprintf("%x", s), "size": len(content), "compression": "none", "contentMD5": base64.StdEncoding.EncodeToString(m[:]),
			"stor": "local", "mtime": "2016-09-06T22:05:49.000Z",
		}},
	}, "", "  ")
	w.must(err)
	w.write("manifests/"+u+".raw", b)
}

func (w *world) remove(i int) {
	u := uuidOf(i)
	w.must(os.Remove(w.path("manifests/" + u + ".raw")))
	w.must(os.RemoveAll(w.path("images/" + u[:3] + "/" + u)))
}

func (w *world) stateDir() string { return filepath.Join(w.root, "data", "tritonops", "backup") }

func (w *world) runner() *Runner {
	return &Runner{
		Store: w.st, Instance: w.inst, StateDir: w.stateDir(), MaxDelete: 1,
		Writer: Writer{Instance: w.name, Alias: w.name, Tool: "tritonops test"},
	}
}

func (w *world) run() Report {
	w.t.Helper()
	rep, err := w.runner().Run(context.Background())
	w.must(err)
	return rep
}

// clean is a run that must find nothing wrong.
func (w *world) clean() Report {
	w.t.Helper()
	rep := w.run()
	if len(rep.Faults) > 0 {
		w.t.Fatalf("faults: %+v", rep.Faults)
	}
	return rep
}

// tree returns every manifest and image file on disk.
func (w *world) tree() map[string]string { return treeOf(w.t, w.inst0()) }

func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, top := range []string{"manifests", "images"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			out[filepath.ToSlash(rel)] = string(b)
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

func (w *world) wipe() {
	for _, d := range []string{"manifests", "images", "run"} {
		w.must(os.RemoveAll(w.path(d)))
	}
	w.must(os.RemoveAll(filepath.Join(w.root, "data", "tritonops")))
}

func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	for p, b := range want {
		g, ok := got[p]
		switch {
		case !ok:
			t.Errorf("%s: missing", p)
		case g != b:
			t.Errorf("%s: %q, want %q", p, clip(g), clip(b))
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: should not be there", p)
		}
	}
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

func hasFault(faults []Fault, code, path string) bool {
	for _, f := range faults {
		if f.Code == code && strings.Contains(f.Path, path) {
			return true
		}
	}
	return false
}

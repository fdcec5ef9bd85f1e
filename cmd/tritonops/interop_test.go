package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/peers"
)

// bakDir is where the lab's instance keeps its backup, for both programs.
const bakDir = "/bob/stor/images0/backup"

// peer runs one of the npm tools in the instance's environment and wants it to
// succeed; it returns what was printed on stdout.
func (r *rig) peer(name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(peers.Need(r.t, name), args...)
	cmd.Env = r.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// stockBackup is what the stock script does: images, then manifests, each with
// --delete, comparing sizes only.
func (r *rig) stockBackup() {
	r.t.Helper()
	for _, part := range []string{"images", "manifests"} {
		r.peer("manta-sync", "--delete", filepath.Join(r.data, part), bakDir+"/"+part)
	}
}

// stockRestore is what the stock script does, into a directory.
func (r *rig) stockRestore(dir string) {
	r.t.Helper()
	for _, part := range []string{"images", "manifests"} {
		r.must(os.MkdirAll(filepath.Join(dir, part), 0o755))
		r.peer("manta-sync", "-r", bakDir+"/"+part, filepath.Join(dir, part))
	}
}

// loseDisk is a zone made anew: nothing of the data, nothing of what this
// program remembers.
func (r *rig) loseDisk() {
	r.t.Helper()
	for _, d := range []string{"manifests", "images", "run", "../tritonops/backup"} {
		r.must(os.RemoveAll(filepath.Join(r.data, d)))
	}
}

// answer runs the program for its JSON.
func (r *rig) answer(into any, codes []int, args ...string) {
	r.t.Helper()
	out := r.run(codes, append(args, "-j", "-q")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		r.t.Fatalf("tritonops %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

type runAnswer struct {
	Generation    int
	Published     bool
	UploadedBytes int64 `json:"uploaded_bytes"`
	Resent        int
	State         struct{ Manifests, Files int }
	Faults        []namedFault
}

type verifyAnswer struct{ Faults []namedFault }

type namedFault struct{ Code, Path, Text, Fix string }

// named is the set of paths that a verify complains about, by code.
func (v verifyAnswer) named() map[string][]string {
	out := map[string][]string{}
	for _, f := range v.Faults {
		out[f.Code] = append(out[f.Code], f.Path)
	}
	for _, l := range out {
		slices.Sort(l)
	}
	return out
}

func TestABackupOfTheStockScriptsRestoresAndIsAdoptedWithoutSendingImageFilesAgain(t *testing.T) {
	peers.Need(t, "manta-sync")
	r := newRig(t, 25)
	want := r.tree(r.data)
	r.stockBackup()
	r.loseDisk()

	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.same("restored from manta-sync's backup", r.tree(r.data), want)
	r.run([]int{0}, "imgapi", "check-files")

	r.lab.Manta().ResetStats()
	var first runAnswer
	r.answer(&first, []int{0}, "imgapi", "backup", "run")
	stats := r.lab.Manta().ResetStats()
	if !first.Published || first.UploadedBytes != 0 || len(first.Faults) != 0 {
		t.Errorf("the first run: %+v, want it published with no image file sent", first)
	}
	if puts := stats.Methods["PUT"]; puts > 20 {
		t.Errorf("the first run sent %d PUTs (%v), want a handful", puts, stats.Methods)
	}
	if stats.BytesIn > 256<<10 {
		t.Errorf("the first run sent %d bytes, want about what the record and the base have", stats.BytesIn)
	}
	r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
	into := filepath.Join(t.TempDir(), "into")
	r.loseDisk()
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.same("restored from the adopted backup", r.tree(r.data), want)
	r.stockRestore(into)
	r.same("what manta-sync -r gets now", r.tree(into), want)
}

func TestTheStockRestoreReadsOurBackup(t *testing.T) {
	peers.Need(t, "manta-sync")
	r := newRig(t, 25)
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.run([]int{0}, "imgapi", "backup", "run")
	r.edit(5) // often without a change of size, which manta-sync would not send
	gone := r.remove(2)
	r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "50%")

	into := t.TempDir()
	r.stockRestore(into)
	want := r.tree(r.data)
	got := r.tree(into)
	for p := range got {
		if _, ok := want[p]; !ok && gone[path.Base(path.Dir(p))] {
			delete(got, p) // files of deleted images stay until prune
		}
	}
	r.same("what manta-sync -r gets", got, want)
}

// remove deletes some images, as the server does: manifest and files.
func (r *rig) remove(n int) map[string]bool {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	gone := map[string]bool{}
	for _, p := range names[:n] {
		u := strings.TrimSuffix(filepath.Base(p), ".raw")
		gone[u] = true
		r.must(os.Remove(p))
		r.must(os.RemoveAll(filepath.Join(r.data, "images", u[:3], u)))
	}
	return gone
}

func TestAnOldCronJobBehindTheLogIsNamedAndPutRight(t *testing.T) {
	peers.Need(t, "manta-sync")
	r := newRig(t, 25)
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.run([]int{0}, "imgapi", "backup", "run")
	want := r.tree(r.data)

	// Three images are away while the old job runs, the file of one for good.
	away := filepath.Join(filepath.Dir(r.data), "away") // on the same file system
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	var lost, back []string
	for i, p := range names[:3] {
		u := strings.TrimSuffix(filepath.Base(p), ".raw")
		for _, rel := range []string{"manifests/" + u + ".raw", "images/" + u[:3] + "/" + u} {
			r.must(os.MkdirAll(filepath.Dir(filepath.Join(away, rel)), 0o755))
			r.must(os.Rename(filepath.Join(r.data, rel), filepath.Join(away, rel)))
			if i > 0 || strings.HasPrefix(rel, "manifests/") {
				back = append(back, rel)
			}
		}
	}
	r.stockBackup()
	for _, rel := range back {
		r.must(os.Rename(filepath.Join(away, rel), filepath.Join(r.data, rel)))
	}
	for p := range r.tree(away) {
		if strings.HasPrefix(p, "images/") {
			lost = append(lost, p)
		}
	}
	slices.Sort(lost)

	var v verifyAnswer
	r.answer(&v, []int{3}, "imgapi", "backup", "verify")
	named := v.named()
	var manifests, files []string
	for _, p := range names[:3] {
		u := strings.TrimSuffix(filepath.Base(p), ".raw")
		manifests = append(manifests, "backup/manifests/"+u+".raw")
		for p := range want {
			if strings.HasPrefix(p, "images/"+u[:3]+"/"+u+"/") {
				files = append(files, p)
			}
		}
	}
	slices.Sort(files)
	if !slices.Equal(named["mirror_differs"], manifests) || !slices.Equal(named["object_lost"], files) {
		t.Errorf("verify names\n%v\nwant manifests %v\nand files %v", named, manifests, files)
	}
	for _, f := range v.Faults {
		if !strings.HasPrefix(f.Fix, "tritonops imgapi backup run --verify") {
			t.Errorf("%s %s: advises %q", f.Code, f.Path, f.Fix)
		}
	}

	// The log still has every manifest. Of the image files the disk has all but one.
	var run runAnswer
	r.answer(&run, []int{3}, "imgapi", "backup", "run", "--verify")
	if paths := (verifyAnswer{run.Faults}).named()["object_lost"]; !slices.Equal(paths, lost) {
		t.Errorf("the run names %v as lost, want %v", paths, lost)
	}
	r.answer(&v, []int{3}, "imgapi", "backup", "verify")
	if named := v.named(); !slices.Equal(named["object_lost"], lost) || len(named) != 1 {
		t.Errorf("after the run that verified: %v\nwant lost %v and nothing else", named, lost)
	}
	into := t.TempDir()
	r.stockRestore(into)
	r.same("what manta-sync -r gets", r.tree(into), r.tree(r.data))
}

func TestThePlainToolsReadMirrorAndLog(t *testing.T) {
	for _, name := range []string{"mls", "mget", "minfo"} {
		peers.Need(t, name)
	}
	r := newRig(t, 15)
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.run([]int{0}, "imgapi", "backup", "run")
	want := r.tree(r.data)

	var manifests []string
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if name, ok := strings.CutPrefix(p, "manifests/"); ok {
			manifests = append(manifests, name)
		}
	}
	if got := strings.Fields(r.peer("mls", bakDir+"/manifests")); !slices.Equal(got, manifests) {
		t.Errorf("mls: %v\nwant %v", got, manifests)
	}
	for p, b := range want {
		if strings.HasSuffix(p, "/file0") {
			if got := r.peer("mget", "-q", bakDir+"/"+p); got != b {
				t.Errorf("mget %s: %d bytes, want %d", p, len(got), len(b))
			}
			break
		}
	}
	if got := r.peer("minfo", bakDir+"/format.json"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("minfo: %s", got)
	}
	base := strings.Fields(r.peer("mls", bakDir+"/base"))
	if len(base) != 1 {
		t.Fatalf("mls base: %v, want one", base)
	}
	archive := r.peer("mget", "-q", bakDir+"/base/"+base[0])
	dir := t.TempDir()
	cmd := exec.Command("tar", "xzf", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar xzf: %v\n%s", err, out)
	}
	got := r.tree(dir)
	for p := range want {
		if !strings.HasPrefix(p, "manifests/") {
			delete(want, p)
		}
	}
	r.same("tar xzf of a base", got, want)
	if kind := headerKind(t, archive); kind != "base" {
		t.Errorf("record.json says kind %q, want base", kind)
	}
}

// headerKind reads an archive of the log as docs/formats.md describes it.
func headerKind(t *testing.T, archive string) string {
	t.Helper()
	zr, err := gzip.NewReader(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(zr)
	var kind, last string
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = h.Name
		if n == 0 {
			var header struct{ Kind string }
			if err := json.NewDecoder(tr).Decode(&header); err != nil || h.Name != "record.json" {
				t.Fatalf("first member %s: %v", h.Name, err)
			}
			kind = header.Kind
		}
	}
	if last != "end.json" {
		t.Errorf("last member %s, want end.json", last)
	}
	return kind
}

package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mess makes an instance whose data directory has one of everything.
func mess(t *testing.T) *Instance {
	i := newInstance(t, `{}`)
	d := i.DataDir()
	put(t, d, "manifests/"+uuidB+".raw", raw(uuidB))
	put(t, d, "manifests/"+uuidA+".raw", raw(uuidA))
	put(t, d, "manifests/"+uuidA+".raw.tmp", "{")
	put(t, d, "manifests/"+uuidA+".json", "{}")
	put(t, d, "manifests/"+strings.ToUpper(uuidA)+".raw", "{}")
	put(t, d, "manifests/x"+uuidA+".raw", "{}")
	put(t, d, "manifests/.tritonops-tmp-x-1", "{}")
	put(t, d, "manifests/evil\nname", "{}")
	put(t, d, "manifests/sub/"+uuidC+".raw", "{}")
	put(t, d, "images/a1b/"+uuidA+"/file0", "abcd")
	put(t, d, "images/a1b/"+uuidA+"/icon", "png")
	put(t, d, "images/a1b/"+uuidA+"/file0.11111111-0000-4000-8000-000000000001", "ab")
	put(t, d, "images/a1b/"+uuidA+"/icon.11111111-0000-4000-8000-000000000002", "a")
	put(t, d, "images/a1b/"+uuidA+"/file01", "x")
	put(t, d, "images/a1b/"+uuidA+"/notes~", "x")
	put(t, d, "images/a1b/"+uuidB+"/file0", "wrong shard")
	put(t, d, "images/b1b/"+uuidB+"/file1", "second")
	put(t, d, "images/b1b/stray", "x")
	put(t, d, "images/b1b/not-a-uuid/file0", "x")
	put(t, d, "images/ABC/x", "x")
	put(t, d, "images/README", "x")
	put(t, d, "images/c1b/"+uuidC+"/file0/oops", "a directory named file0")
	link := func(target, rel string) {
		if err := os.Symlink(target, filepath.Join(d, rel)); err != nil {
			t.Fatal(err)
		}
	}
	link("/etc/passwd", "manifests/"+uuidC+".raw")
	link("/etc", "images/b1b/b1b2c3d4-0000-4000-8000-00000000000e")
	if err := unix.Mkfifo(filepath.Join(d, "images/c1b/"+uuidC+"/icon"), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestManifestsAreYieldedInOrderAndLinksRefused(t *testing.T) {
	i := mess(t)
	var got []string
	for e, err := range i.Manifests(t.Context()) {
		if err != nil {
			var ee *EntryError
			if !errors.As(err, &ee) || !errors.Is(err, ErrNotRegular) {
				t.Fatal(err)
			}
			got = append(got, "! "+err.Error())
			continue
		}
		if e.Path != i.ManifestPath(e.UUID) || e.Info.Size() == 0 {
			t.Errorf("entry %+v", e)
		}
		got = append(got, e.UUID)
	}
	want := []string{uuidA, uuidB, "! manifests/" + uuidC + ".raw: is a symbolic link: refused"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	uuids, err := i.UUIDs(t.Context())
	if d := cmp.Diff([]string{uuidA, uuidB, uuidC}, uuids); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestImageFilesAreYieldedInOrderAndLinksRefused(t *testing.T) {
	i := mess(t)
	var got []string
	for f, err := range i.ImageFiles(t.Context()) {
		if err != nil {
			if f.UUID == "" {
				t.Fatal(err)
			}
			got = append(got, "! "+err.Error())
			continue
		}
		if f.Path != i.FilePath(f.UUID, f.Name) || f.Rel != RelFile(f.UUID, f.Name) || f.Info.Size() == 0 {
			t.Errorf("file %+v", f)
		}
		got = append(got, f.Rel)
	}
	want := []string{
		"images/a1b/" + uuidA + "/file0",
		"images/a1b/" + uuidA + "/icon",
		"images/b1b/" + uuidB + "/file1",
		"! images/b1b/b1b2c3d4-0000-4000-8000-00000000000e: is a symbolic link: refused",
		"! images/c1b/" + uuidC + "/file0: is a directory: refused",
		"! images/c1b/" + uuidC + "/icon: is a pipe: refused",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStraysAreClassed(t *testing.T) {
	i := mess(t)
	var got []string
	for s, err := range i.Strays(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Class == LeftoverUpload && (s.UUID != uuidA || s.Size == 0) {
			t.Errorf("leftover %+v", s)
		}
		got = append(got, fmt.Sprintf("%q %s", s.Rel, s.Class))
	}
	want := []string{
		`"images/ABC" wrong place`,
		`"images/README" wrong place`,
		`"images/a1b/` + uuidA + `/file0.11111111-0000-4000-8000-000000000001" leftover upload`,
		`"images/a1b/` + uuidA + `/file01" other`,
		`"images/a1b/` + uuidA + `/icon.11111111-0000-4000-8000-000000000002" leftover upload`,
		`"images/a1b/` + uuidA + `/notes~" temporary file`,
		`"images/a1b/` + uuidB + `" wrong place`,
		`"images/b1b/b1b2c3d4-0000-4000-8000-00000000000e" not a plain file`,
		`"images/b1b/not-a-uuid" wrong place`,
		`"images/b1b/stray" wrong place`,
		`"images/c1b/` + uuidC + `/file0" not a plain file`,
		`"images/c1b/` + uuidC + `/icon" not a plain file`,
		`"manifests/.tritonops-tmp-x-1" temporary file`,
		`"manifests/` + strings.ToUpper(uuidA) + `.raw" other`,
		`"manifests/` + uuidA + `.json" other`,
		`"manifests/` + uuidA + `.raw.tmp" temporary file`,
		`"manifests/` + uuidC + `.raw" not a plain file`,
		`"manifests/evil\nname" other`,
		`"manifests/sub" not a plain file`,
		`"manifests/x` + uuidA + `.raw" other`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for s := range i.Strays(t.Context()) { // stopping early must not panic
		if s.Rel != "images/ABC" {
			t.Errorf("first is %s", s.Rel)
		}
		break
	}
	sums, list, err := i.SumStrays(t.Context(), 3)
	if err != nil || len(list) != 3 || len(sums) != 5 || sums[1] != (StraySum{LeftoverUpload, 2, 3}) {
		t.Errorf("sums %+v, list %+v, %v", sums, list, err)
	}
	names, err := i.Leftovers(t.Context(), uuidA)
	if err != nil || len(names) != 2 {
		t.Errorf("leftovers of one image: %q %v", names, err)
	}
	if names, err = i.Leftovers(t.Context(), "d1b2c3d4-0000-4000-8000-000000000004"); err != nil || names != nil {
		t.Errorf("leftovers of no image: %q %v", names, err)
	}
}

func TestAWalkOfAbsentOrLinkedDirectoriesIsAnError(t *testing.T) {
	i := newInstance(t, `{}`)
	walks := map[string]func(context.Context) error{
		"manifests": func(ctx context.Context) (err error) {
			for _, err = range i.Manifests(ctx) {
			}
			return err
		},
		"images": func(ctx context.Context) (err error) {
			for _, err = range i.ImageFiles(ctx) {
			}
			return err
		},
		"uuids": func(ctx context.Context) error { _, err := i.UUIDs(ctx); return err },
	}
	for name, walk := range walks {
		if err := walk(t.Context()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s absent: %v", name, err)
		}
	}
	for _, err := range i.Strays(t.Context()) {
		t.Errorf("strays of nothing: %v", err)
	}
	elsewhere := t.TempDir()
	for _, dir := range []string{i.ManifestsDir(), i.ImagesDir()} {
		if err := os.Symlink(elsewhere, dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, walk := range walks {
		if err := walk(t.Context()); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s is a link: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := mess(t)
	i = j
	for name, walk := range walks {
		if err := walk(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s cancelled: %v", name, err)
		}
	}
}

func TestALinkedShardEndsTheWalk(t *testing.T) {
	i := mess(t)
	if err := os.Symlink(t.TempDir(), filepath.Join(i.ImagesDir(), "aaa")); err != nil {
		t.Fatal(err)
	}
	var last error
	for f, err := range i.ImageFiles(t.Context()) {
		if last = err; f.UUID != "" && strings.HasPrefix(f.UUID, "b") {
			t.Errorf("the walk went on to %s", f.Rel)
		}
	}
	if !errors.Is(last, ErrNotRegular) {
		t.Errorf("last error %v", last)
	}
}

func TestIDsKeepTheByteOrderOfNames(t *testing.T) {
	names := []string{"ffffffff-0000-4000-8000-000000000000", "0a000000-0000-4000-8000-000000000000", "09000000-ffff-4000-8000-000000000000", "a0000000-0000-4000-8000-00000000000f"}
	var ids []id
	for _, n := range names {
		u, ok := parseID(n)
		if !ok || u.String() != n {
			t.Fatalf("%s -> %s %v", n, u, ok)
		}
		ids = append(ids, u)
	}
	slices.Sort(names)
	slices.SortFunc(ids, func(a, b id) int { return strings.Compare(string(a[:]), string(b[:])) })
	for n := range names {
		if ids[n].String() != names[n] {
			t.Errorf("%d: %s, want %s", n, ids[n], names[n])
		}
	}
	for _, bad := range []string{"", "x", strings.ToUpper(uuidA), uuidA + "\n", uuidA + " ", strings.Replace(uuidA, "-", "0", 1), uuidA[:35] + "g", "a1b2c3d4-0000-4000-8000-0000000000é1"} {
		if ValidUUID(bad) {
			t.Errorf("%q passes", bad)
		}
	}
}

// A walk holds 16 bytes a name: it must not grow by more with the number of
// manifests.
func TestWalking100000ManifestsTakesLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 names")
	}
	i := newInstance(t, `{}`)
	const n = 100_000
	if err := os.MkdirAll(i.ManifestsDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	file := ""
	for k := range n { // hard links are quicker made than files
		path := i.ManifestPath(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(k)*2654435761, k))
		if k%10_000 == 0 {
			file = path
			if err := os.WriteFile(path, []byte(`{}`), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Link(file, path); err != nil {
			t.Fatal(err)
		}
	}
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count, prev := 0, ""
	for e, err := range i.Manifests(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.UUID <= prev {
			t.Fatalf("%s after %s", e.UUID, prev)
		}
		prev = e.UUID
		if count++; count == n/2 {
			runtime.GC()
			runtime.ReadMemStats(&during)
		}
	}
	if count != n {
		t.Errorf("%d of %d manifests", count, n)
	}
	held := int64(during.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("held in the middle of the walk: %d KiB", held>>10)
	if held > 8<<20 {
		t.Errorf("the walk holds %d MiB", held>>20)
	}
}

package integrity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tritonops/tritonops/pkg/instance"
)

// image writes a manifest and, when content is not nil, its file.
func image(t *testing.T, i *instance.Instance, uuid, origin, stor, tags string, content []byte) {
	t.Helper()
	f := describe(content, "none")
	if origin != "" {
		origin = fmt.Sprintf(`"origin":%q,`, origin)
	}
	write(t, i.ManifestPath(uuid), fmt.Appendf(nil, `{"v":2,"uuid":%q,"owner":%q,"name":"img-%s","version":"1.0","state":"active",
"disabled":false,"activated":true,"public":true,"published_at":"2016-07-28T19:03:19.219Z","type":"zone-dataset","os":"smartos",%s
"tagsObj":{%s},"files":[{"sha1":%q,"size":%d,"compression":"none","contentMD5":%q,"stor":%q}]}`,
		uuid, instance.UnsetOwner, uuid[:4], origin, tags, f.SHA1, f.Size, f.ContentMD5, stor))
	if stor == Local {
		write(t, i.FilePath(uuid, "file0"), content)
	}
}

func TestASurveySelectsAndFindsBadManifests(t *testing.T) {
	i := newInstance(t)
	image(t, i, uuidA, "", Local, `"docker:id":"sha256:abc"`, []byte("aaaa"))
	image(t, i, uuidB, uuidA, Local, `"docker:id":"abc"`, []byte("bb"))
	image(t, i, uuidC, uuidB, Manta, ``, []byte("c"))
	torn, linked, foreign := "d0000000-0000-4000-8000-000000000000", "e0000000-0000-4000-8000-000000000000", "f0000000-0000-4000-8000-000000000000"
	write(t, i.ManifestPath(torn), []byte(`{"uuid": "d00`))
	write(t, i.ManifestPath(foreign), []byte(`{"uuid": "`+foreign+`", "os": "beos"}`))
	if err := os.Symlink("/etc/passwd", i.ManifestPath(linked)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sel   Select
		uuids string
		bytes int64
	}{
		{Select{}, uuidA + " " + uuidB + " " + uuidC, 7},
		{Select{Stor: Local}, uuidA + " " + uuidB, 6},
		{Select{Stor: Manta}, uuidC, 1},
		{Select{DockerV2: true}, uuidA, 4},
		{Select{UUIDs: []string{uuidC, uuidA, uuidC}}, uuidA + " " + uuidC, 5},
	} {
		s, err := Take(t.Context(), i, tt.sel)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(s.UUIDs, " ") != tt.uuids || s.Bytes != tt.bytes || s.Files != len(s.UUIDs) {
			t.Errorf("%+v: %q, %d files, %d bytes", tt.sel, s.UUIDs, s.Files, s.Bytes)
		}
		n := 0
		for target, err := range s.Targets(t.Context()) {
			if err != nil || target.File != "file0" {
				t.Error(target, err)
			}
			n++
		}
		if n != s.Files {
			t.Errorf("%+v: %d targets, announced %d", tt.sel, n, s.Files)
		}
	}
	s, err := Take(t.Context(), i, Select{})
	if err != nil || s.NoFile != 1 {
		t.Fatal(s, err)
	}
	var got []string
	for _, f := range s.Manifests {
		got = append(got, fmt.Sprintf("%s %v %s", f.UUID[:1], f.Rejected, strings.TrimPrefix(f.Reason, i.ManifestsDir()+"/")))
	}
	if len(got) != 3 || !strings.HasPrefix(got[0], "d false ") || !strings.Contains(got[0], "half-written") ||
		!strings.Contains(got[1], "e false manifests/"+linked+".raw: is a symbolic link") ||
		!strings.HasPrefix(got[2], "f true v: missing; owner: missing") {
		t.Errorf("manifests: %q", got)
	}
	if _, err := Take(t.Context(), i, Select{UUIDs: []string{"00000000-0000-4000-8000-000000000000"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown image: %v", err)
	}
}

func TestAFaultIsExplainedByTheImagesThatDependOnIt(t *testing.T) {
	i := newInstance(t)
	image(t, i, uuidA, "", Local, ``, []byte("aaaa"))
	image(t, i, uuidB, uuidA, Local, ``, []byte("bb"))
	image(t, i, uuidC, uuidB, Local, ``, []byte("c"))
	if err := os.Rename(i.FilePath(uuidB, "file0"), i.FilePath(uuidB, "file0")+".11111111-0000-4000-8000-000000000001"); err != nil {
		t.Fatal(err)
	}
	for _, sel := range []Select{{}, {UUIDs: []string{uuidB}}} {
		s, err := Take(t.Context(), i, sel)
		if err != nil {
			t.Fatal(err)
		}
		c := &Checker{Stores: map[string]Files{Local: LocalFiles{i}}, Reread: s.Reread}
		var faults []Fault
		_, err = c.Run(t.Context(), s.Targets(t.Context()), func(r Result) {
			if r.State != OK {
				f, err := s.Explain(t.Context(), r)
				if err != nil {
					t.Error(err)
				}
				faults = append(faults, f)
			}
		})
		if err != nil || len(faults) != 1 {
			t.Fatalf("%d faults, %v", len(faults), err)
		}
		b, c1 := Image{uuidB, "img-b1b2", "1.0"}, Image{uuidC, "img-c1b2", "1.0"}
		if d := cmp.Diff([]Image{c1, b}, faults[0].Dependents); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]Image{c1}, faults[0].Heads); d != "" {
			t.Error(d)
		}
		if faults[0].State != Missing || faults[0].Leftover != "file0.11111111-0000-4000-8000-000000000001" {
			t.Errorf("%+v", faults[0])
		}
	}
}

func TestAManifestDeletedDuringTheRunIsPassedOver(t *testing.T) {
	i := newInstance(t)
	image(t, i, uuidA, "", Local, ``, []byte("aaaa"))
	image(t, i, uuidB, "", Local, ``, []byte("bb"))
	s, err := Take(t.Context(), i, Select{})
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(i.ManifestPath(uuidA))
	os.RemoveAll(filepath.Dir(i.FilePath(uuidA, "file0")))
	write(t, i.ManifestPath(uuidB), []byte("{"))
	for target, err := range s.Targets(t.Context()) {
		t.Errorf("%+v %v", target, err)
	}
	if len(s.Manifests) != 1 || s.Manifests[0].UUID != uuidB {
		t.Errorf("%+v", s.Manifests)
	}
	if _, ok, err := s.Reread(t.Context(), Target{UUID: uuidA, File: "file0"}); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}

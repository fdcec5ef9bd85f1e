package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// sample is a valid record with one manifest, one image file and one delete.
func sample(t testing.TB) []byte {
	t.Helper()
	content := map[string][]byte{}
	put := func(p, b string) Entry {
		content[p] = []byte(b)
		return inlineEntry(p, []byte(b))
	}
	m := put("manifests/"+uuidOf(1)+".raw", `{"v":2}`)
	f := Entry{Path: "images/" + uuidOf(1)[:3] + "/" + uuidOf(1) + "/file0", Size: 12}
	c := Changes{Puts: []Entry{f, m}, Deletes: []string{"manifests/" + uuidOf(2) + ".raw"}}
	h := Header{Format: formatName, Version: FormatVersion, Kind: KindCommit, Seq: 7, Time: time.Unix(1e9, 0).UTC(), Nonce: "n"}
	sp, err := writeSpool(t.(interface{ TempDir() string }).TempDir(), h, c, Summary{Manifests: 1}, func(e Entry) ([]byte, error) { return content[e.Path], nil })
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sp.Path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARecordReadsBackAsItWasWritten(t *testing.T) {
	var puts, deletes []string
	h, tr, err := readArchive(bytes.NewReader(sample(t)), visitor{
		put:    func(e Entry, b []byte) error { puts = append(puts, e.Path+"="+string(b)); return nil },
		delete: func(p string) error { deletes = append(deletes, p); return nil },
	})
	if err != nil || h.Seq != 7 || tr.State.Manifests != 1 || len(deletes) != 1 {
		t.Fatalf("%v %+v %+v %v", err, h, tr, deletes)
	}
	if len(puts) != 2 || !strings.HasSuffix(puts[1], `={"v":2}`) || !strings.HasSuffix(puts[0], "file0=") {
		t.Fatalf("puts: %q", puts)
	}
}

func TestEveryShorteningAndBitFlipOfARecordIsNoticed(t *testing.T) {
	b := sample(t)
	for n := range len(b) {
		if _, _, err := readArchive(bytes.NewReader(b[:n]), discard); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
		}
	}
	read := func(b []byte) (string, error) {
		var out strings.Builder
		h, tr, err := readArchive(bytes.NewReader(b), visitor{
			put:    func(e Entry, c []byte) error { fmt.Fprintln(&out, e, string(c)); return nil },
			delete: func(p string) error { fmt.Fprintln(&out, p); return nil },
		})
		fmt.Fprintln(&out, h, tr)
		return out.String(), err
	}
	want, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		// gzip's header has bytes that nobody checks; they change nothing.
		if got, err := read(c); err == nil && got != want {
			t.Errorf("byte %d flipped: reads as %s", i, got)
		} else if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	if _, _, err := readArchive(bytes.NewReader(append(bytes.Clone(b), 'x')), discard); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte behind the archive: %v", err)
	}
}

// forge builds an archive by hand.
func forge(t testing.TB, members ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, m := range members {
		if err := tw.WriteHeader(&tar.Header{Name: m[0], Mode: 0o644, Size: int64(len(m[1]))}); err != nil {
			t.Fatal(err)
		}
		tw.Write([]byte(m[1]))
	}
	tw.Close()
	gz.Close()
	return b.Bytes()
}

const header1 = `{"format":"tritonops-backup","version":1,"kind":"commit","seq":1}`

func TestHostileRecordsAreRefused(t *testing.T) {
	line := func(p string) string {
		return fmt.Sprintf(`{"path":%q,"size":1,"md5":"%032x","sha256":"%064x"}`, p, 0, 0)
	}
	u := uuidOf(1)
	for name, members := range map[string][][2]string{
		"parent path":         {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/../../etc/passwd")}},
		"absolute path":       {{"record.json", header1}, {"entries-000001.jsonl", line("/etc/passwd")}},
		"NUL":                 {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/\x00.raw")}},
		"newline":             {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/a\nb.raw")}},
		"300 bytes":           {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/" + strings.Repeat("a", 300))}},
		"other shard":         {{"record.json", header1}, {"entries-000001.jsonl", line("images/fff/" + u + "/file0")}},
		"private key":         {{"record.json", header1}, {"entries-000001.jsonl", line("etc/imgapi.id_rsa")}},
		"bytes swapped":       {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/" + u + ".raw")}, {"manifests/" + uuidOf(2) + ".raw", "x"}},
		"wrong bytes":         {{"record.json", header1}, {"entries-000001.jsonl", line("manifests/" + u + ".raw")}, {"manifests/" + u + ".raw", "x"}},
		"negative size":       {{"record.json", header1}, {"entries-000001.jsonl", strings.Replace(line("images/"+u[:3]+"/"+u+"/file0"), `"size":1`, `"size":-1`, 1)}},
		"no trailer":          {{"record.json", header1}},
		"no header":           {{"end.json", "{}"}},
		"not our format":      {{"record.json", `{"format":"x","version":1,"seq":1}`}},
		"record zero":         {{"record.json", `{"format":"tritonops-backup","version":1,"seq":0}`}},
		"trailer too early":   {{"record.json", header1}, {"end.json", `{}`}, {"etc/x", ""}},
		"counts do not match": {{"record.json", header1}, {"end.json", `{"puts":4}`}},
		"lines out of order": {{"record.json", header1}, {"entries-000001.jsonl",
			`{"path":"manifests/` + uuidOf(2) + `.raw","delete":true}` + "\n" + `{"path":"manifests/` + u + `.raw","delete":true}`}},
		"chunk out of order": {{"record.json", header1}, {"entries-000002.jsonl", ""}},
	} {
		_, _, err := readArchive(bytes.NewReader(forge(t, members...)), discard)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, h := range []string{`{"format":"tritonops-backup","version":9,"seq":1}`, `{"format":"tritonops-backup","version":9,"seq":"later"}`} {
		if _, _, err := readArchive(bytes.NewReader(forge(t, [2]string{"record.json", h})), discard); !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) {
			t.Errorf("a newer version: %v", err)
		}
	}
}

func TestADamagedCacheIsNoCache(t *testing.T) {
	p := filepath.Join(t.TempDir(), "cache.jsonl")
	c := &cache{sigs: map[string]signature{}}
	c.Seq, c.StoreID = 4, "s"
	c.state, _ = NewState([]Entry{inlineEntry("manifests/"+uuidOf(1)+".raw", []byte("a")), inlineEntry("manifests/"+uuidOf(2)+".raw", []byte("b"))})
	if err := c.save(p); err != nil {
		t.Fatal(err)
	}
	if got := loadCache(p); got.Seq != 4 || got.state.Len() != 2 || got.state.Summary() != c.state.Summary() {
		t.Fatalf("%+v", got)
	}
	b, _ := os.ReadFile(p)
	for n := 0; n < len(b)-1; n += 7 {
		if err := os.WriteFile(p, b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := loadCache(p); got.Seq != 0 || got.state.Len() != 0 {
			t.Fatalf("cut to %d bytes it still counts: %+v", n, got.cacheHeader)
		}
	}
}

func TestAFileYoungerThanItsHashIsNotTrusted(t *testing.T) {
	s := signature{Size: 1, MTime: 100e9, CTime: 101e9, Inode: 5, Hashed: 104e9}
	if !s.trusts(s) {
		t.Error("settled for 3 s and not trusted")
	}
	for name, change := range map[string]func(*signature){
		"size": func(s *signature) { s.Size++ }, "mtime": func(s *signature) { s.MTime++ },
		"ctime": func(s *signature) { s.CTime++ }, "inode": func(s *signature) { s.Inode++ },
	} {
		now := s
		change(&now)
		if s.trusts(now) {
			t.Errorf("%s changed and still trusted", name)
		}
	}
	young := s
	young.Hashed = 102e9
	if young.trusts(young) {
		t.Error("changed 1 s before it was hashed and trusted")
	}
	future := s
	future.MTime = 200e9
	if future.trusts(future) {
		t.Error("changed after it was hashed, by its own time, and trusted")
	}
}

func FuzzReadArchive(f *testing.F) {
	f.Add(sample(f))
	f.Add(forge(f, [2]string{"record.json", header1}, [2]string{"end.json", "{}"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := readArchive(bytes.NewReader(b), visitor{
			put: func(e Entry, content []byte) error {
				if checkPath(e.Path) != nil || e.Inline() && int64(len(content)) != e.Size {
					t.Errorf("accepted %+v", e)
				}
				return nil
			},
			delete: func(p string) error {
				if checkPath(p) != nil {
					t.Errorf("accepted deletion of %q", p)
				}
				return nil
			},
		})
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Errorf("unclassified: %v", err)
		}
	})
}

// FuzzMembers reaches behind gzip and tar: the fuzzer writes the members.
func FuzzMembers(f *testing.F) {
	f.Add(header1, `{"path":"manifests/`+uuidOf(1)+`.raw","delete":true}`, `{"deletes":1}`)
	f.Fuzz(func(t *testing.T, head, lines, end string) {
		b := forge(t, [2]string{"record.json", head}, [2]string{"entries-000001.jsonl", lines}, [2]string{"end.json", end})
		var n int
		_, tr, err := readArchive(bytes.NewReader(b), visitor{
			put:    func(Entry, []byte) error { n++; return nil },
			delete: func(string) error { n++; return nil },
		})
		if err == nil && tr.Puts+tr.Deletes != n {
			t.Errorf("counted %d and %d, met %d", tr.Puts, tr.Deletes, n)
		}
	})
}

func FuzzEntry(f *testing.F) {
	b, _ := json.Marshal(inlineEntry("manifests/"+uuidOf(1)+".raw", []byte("x")))
	f.Add(string(b))
	f.Fuzz(func(t *testing.T, s string) {
		var e Entry
		if json.Unmarshal([]byte(s), &e) != nil {
			return
		}
		if store.CheckKey(e.Path) != nil || e.Size < 0 {
			t.Errorf("accepted %+v", e)
		}
		b, err := json.Marshal(e)
		var again Entry
		if err != nil || json.Unmarshal(b, &again) != nil || again != e {
			t.Errorf("%+v does not survive a round trip: %s", e, b)
		}
	})
}

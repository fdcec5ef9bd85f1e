package integrity

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testSHA1 = "0123456789abcdef0123456789abcdef01234567"

func TestCacheSurvivesASaveAndForgetsTheDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "cache", "check-files.json")
	c, err := LoadCache(path)
	if err != nil || c.Len() != 0 {
		t.Fatal("absent:", err)
	}
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an unchanged cache was written")
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for k := range 1000 {
		r := Result{UUID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", k), File: "file0", Stor: Local, Size: int64(k), SHA1: testSHA1, CheckedAt: at}
		c.put(r, "id")
	}
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	if c, err = LoadCache(path); err != nil || c.Len() != 1000 {
		t.Fatal(c.Len(), err)
	}
	r := Result{UUID: "00000007-0000-4000-8000-000000000000", File: "file0", Stor: Local, Size: 7, SHA1: testSHA1}
	if got, ok := c.good(r, "id"); !ok || !got.Equal(at) {
		t.Errorf("%v %v", got, ok)
	}
	if _, ok := c.good(r, "other id"); ok {
		t.Error("another version of the file counts as good")
	}
	r.SHA1 = "not hexadecimal"
	if c.put(r, "id"); c.Len() != 1000 {
		t.Error("a file without a SHA-1 was remembered")
	}
	r.SHA1 = testSHA1
	if _, ok := c.good(r, ""); ok {
		t.Error("a file without a version counts as good")
	}
	r.Stor = Manta
	if _, ok := c.good(r, "id"); ok {
		t.Error("the file in another place counts as good")
	}
	c.Retain(func(uuid string) bool { return strings.HasPrefix(uuid, "00000007") })
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	if c, err = LoadCache(path); err != nil || c.Len() != 1 {
		t.Error(c.Len(), err)
	}
}

func TestADamagedCacheIsAnEmptyOne(t *testing.T) {
	var whole bytes.Buffer
	c := NewCache()
	c.put(Result{UUID: uuidA, File: "file0", Stor: Local, SHA1: testSHA1}, "id")
	if err := c.write(&whole); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "c.json")
	for _, text := range []string{
		"", "null", "[]", "{", "{}", `{"version":2,"files":{}}`, `{"files":{},"version":1}`, `{"version":1,"files":[]}`,
		`{"version":1,"files":{"a":5}}`, `{"version":1,"files":{"a/b/c":{}}}`,
		`{"version":1,"files":{"` + uuidA + `/file0/local":{"sha1":"xx","id":"yy"}}}`, `{"version":1,"more":1}`, `{"version":"1"}`,
		`{"version":1,"files":{"` + strings.Repeat("k", 1000) + `":{}}}`,
		whole.String()[:whole.Len()-4],
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadCache(path)
		if err == nil || c == nil || c.Len() != 0 {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if c, err := LoadCache(t.TempDir()); err == nil || c.Len() != 0 {
		t.Errorf("a directory: %v", err)
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":{"` + uuidA + `/file0/local":{"size":1,"sha1":"` + testSHA1 + `","id":"0123456789abcdef01234567","checked_at":"2026-01-02T03:04:05Z"}}}`))
	f.Add([]byte(`{"version":1,"files":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readCache(bytes.NewReader(b))
		if (c == nil) == (err == nil) {
			t.Fatalf("cache %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := c.write(&out); err != nil {
			return // a year beyond 9999 can be read, not written
		}
		again, err := readCache(&out)
		if err != nil || again.Len() != c.Len() {
			t.Errorf("%d entries, %d after a save: %v", c.Len(), again.Len(), err)
		}
	})
}

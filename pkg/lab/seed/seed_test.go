package seed

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ulikunitz/xz"
)

// treeHash is over names, times and bytes of a tree.
func treeHash(t *testing.T, root string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		fmt.Fprintf(h, "%s %d %d\n", rel, fi.ModTime().UnixNano(), len(b))
		h.Write(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func run(t *testing.T, cfg Config) (string, Summary) {
	t.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.DataDir, s
}

func TestTheSameSeedGivesTheSameTree(t *testing.T) {
	cfg := Config{Images: 200, Files: -1, Seed: 7}
	dir, s := run(t, cfg)
	first := treeHash(t, dir)
	other, _ := run(t, cfg)
	if got := treeHash(t, other); got != first {
		t.Error("two runs differ")
	}
	cfg.DataDir = dir
	run(t, cfg)
	if got := treeHash(t, dir); got != first {
		t.Error("seeding again changed the tree")
	}
	cfg.DataDir, cfg.Seed = "", 8
	third, _ := run(t, cfg)
	if treeHash(t, third) == first {
		t.Error("another seed gives the same tree")
	}
	if s.Images != 200 || s.Files == 0 || s.Incremental == 0 || s.Icons == 0 || s.Leftovers == 0 {
		t.Errorf("summary %+v: something realistic is missing", s)
	}
}

func TestFilesHoldWhatTheManifestSays(t *testing.T) {
	dir, s := run(t, Config{Images: 150, Files: 120, Seed: 3, Channels: []string{"dev", "release"}})
	seen := map[string]int{}
	names, _ := filepath.Glob(filepath.Join(dir, "manifests", "*.raw"))
	if len(names) != s.Images {
		t.Fatalf("%d manifests, summary says %d", len(names), s.Images)
	}
	for _, n := range names {
		b, _ := os.ReadFile(n)
		var r raw
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(n, err)
		}
		if len(r.Channels) == 0 {
			t.Errorf("%s: no channels", r.UUID)
		}
		for _, f := range r.Files {
			if f.Stor == "manta" {
				seen["manta"]++
				continue
			}
			checkBytes(t, filepath.Join(dir, "images", r.UUID[:3], r.UUID, "file0"), f)
			seen[f.Compression]++
		}
		if r.Icon != nil {
			checkBytes(t, filepath.Join(dir, "images", r.UUID[:3], r.UUID, "icon"), file{Size: r.Icon.Size, SHA1: r.Icon.SHA1, ContentMD5: r.Icon.ContentMD5, Compression: "none"})
		}
	}
	for _, k := range []string{"gzip", "bzip2", "xz", "none", "manta"} {
		if seen[k] == 0 {
			t.Errorf("no image with %s: %v", k, seen)
		}
	}
}

func checkBytes(t *testing.T, path string, f file) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s1, s5 := sha1.Sum(b), md5.Sum(b)
	if int64(len(b)) != f.Size || hex.EncodeToString(s1[:]) != f.SHA1 || base64.StdEncoding.EncodeToString(s5[:]) != f.ContentMD5 {
		t.Errorf("%s: size, sha1 or MD5 is not what the manifest says", path)
	}
	var r io.Reader = bytes.NewReader(b)
	switch f.Compression {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "bzip2":
		r = bzip2.NewReader(r)
	case "xz":
		r, err = xz.NewReader(r)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		t.Errorf("%s: not valid %s: %v", path, f.Compression, err)
	}
}

func TestOriginsAreOlderActiveImagesOfTheSameName(t *testing.T) {
	dir, _ := run(t, Config{Images: 600, Files: 0, Seed: 1})
	byUUID := map[string]raw{}
	names, _ := filepath.Glob(filepath.Join(dir, "manifests", "*.raw"))
	for _, n := range names {
		b, _ := os.ReadFile(n)
		var r raw
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		byUUID[r.UUID] = r
	}
	longest := 0
	for _, r := range byUUID {
		depth := 0
		for at := r; at.Origin != ""; depth++ {
			o, ok := byUUID[at.Origin]
			if !ok || o.State != "active" || o.Name != at.Name || at.Published != "" && o.Published > at.Published {
				t.Fatalf("%s: origin %s is not an older active image of the same name", at.UUID, at.Origin)
			}
			at = o
		}
		longest = max(longest, depth)
	}
	if longest < 2 {
		t.Errorf("longest chain is %d", longest)
	}
}

func TestRealSizesStayBelowTheBound(t *testing.T) {
	dir, s := run(t, Config{Images: 4, Files: 4, SizeDist: Real, MaxSize: 2 << 20, Seed: 2})
	if s.FileBytes > 4*(2<<20)+4096 {
		t.Errorf("%d bytes in %d files", s.FileBytes, s.Files)
	}
	if treeHash(t, dir) == "" {
		t.Error("no tree")
	}
}

func TestWrongConfigurationIsRefusedAndACancelledRunStops(t *testing.T) {
	for want, cfg := range map[string]Config{
		"size distribution": {DataDir: "x", SizeDist: "huge"},
		"mode":              {DataDir: "x", Mode: "dc"},
		"files for":         {DataDir: "x", Images: 1, Files: 2},
		"data directory":    {},
	} {
		if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	_, err := Run(ctx, Config{DataDir: t.TempDir(), Images: 100000, Files: 0, Done: func() {
		if n.Add(1) == 5 {
			cancel()
		}
	}})
	if err != context.Canceled {
		t.Errorf("cancelled run: %v", err)
	}
}

func BenchmarkManifests(b *testing.B) {
	for b.Loop() {
		start := time.Now()
		s, err := Run(context.Background(), Config{DataDir: b.TempDir(), Images: 2000, Files: 0})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(s.Images)/time.Since(start).Seconds(), "images/s")
	}
}

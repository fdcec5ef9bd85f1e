package imgapid

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/seed"
)

// BenchmarkLoad tells what a start costs for each manifest.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	if _, err := seed.Run(context.Background(), seed.Config{DataDir: dir, Images: 5000, Files: 0}); err != nil {
		b.Fatal(err)
	}
	log := &bunyan{w: io.Discard, now: time.Now}
	for b.Loop() {
		d, err := loadDatabase(filepath.Join(dir, "manifests"), newRules("public", false), log)
		if err != nil || d.size() != 5000 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/5000, "us/manifest")
}

func TestEverySeededImageIsServed(t *testing.T) {
	for _, conf := range []map[string]any{
		{"mode": "private"},
		{"channels": []map[string]any{{"name": "dev", "description": "d", "default": true}, {"name": "release", "description": "r"}}},
	} {
		s := newSite(t, conf)
		cfg := seed.Config{DataDir: s.data(""), Images: 120, Files: 60, Seed: 9, Mode: s.p.set.Mode}
		for _, c := range s.p.set.Channels {
			cfg.Channels = append(cfg.Channels, c.Name)
		}
		if _, err := seed.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		s.restart()
		if s.p.Images() != cfg.Images {
			t.Fatalf("%d of %d served:\n%s", s.p.Images(), cfg.Images, s.log)
		}
		files := 0
		for _, im := range s.want(200, signedGet("/images?state=all&channel=*&inclAdminFields=true")).list(t) {
			list := im["files"].([]any)
			if len(list) == 0 || list[0].(map[string]any)["stor"] != "local" {
				continue
			}
			files++
			f := s.want(200, get("/images/"+im["uuid"].(string)+"/file?channel=*"))
			if f.h.Get("Etag") != sha(string(f.body)) {
				t.Errorf("%s: the bytes do not have the sha1 of the manifest", im["uuid"])
			}
		}
		if files == 0 {
			t.Error("no files")
		}
	}
}

package lab

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

// seeded is what the manifests of an instance say, file by file.
type seeded struct {
	UUID  string
	State string
	Files []struct{ SHA1, Stor string }
	Icon  *struct{ SHA1, Stor string }
}

func manifests(t *testing.T, in *InstanceState) []seeded {
	t.Helper()
	names, err := filepath.Glob(zone{in}.data("manifests", "*.raw"))
	if err != nil {
		t.Fatal(err)
	}
	var all []seeded
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		var s seeded
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestSeededFilesInMantaAreServed(t *testing.T) {
	for stor, want := range map[string][2]int{"": {10, 10}, "manta": {0, 10}, "mixed": {10, 10}} {
		l := up(t, Config{Instances: 1})
		s := l.State()
		in := &s.Instances[0]
		conf, err := zone{in}.readConfig()
		if err != nil || !slices.Equal(conf.StorageTypes, []string{"manta", "local"}) {
			t.Fatalf("%v %v", conf.StorageTypes, err)
		}
		sum, err := connect(t, s.Dir).Seed(t.Context(), "images0", SeedRequest{Images: 24, Files: 10, Stor: stor, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		// a few unactivated images have no file at all
		if sum.Files > want[0] || sum.Files < want[0]-3 || sum.MantaFiles > want[1] || sum.MantaFiles < want[1]-3 || sum.MantaBytes == 0 {
			t.Errorf("%q: %+v", stor, sum)
		}
		got := map[string]int{}
		for _, m := range manifests(t, in) {
			if len(m.Files) == 0 {
				continue
			}
			status, b, err := fetch(t, in.LocalURL()+"/images/"+m.UUID+"/file")
			if status == 500 {
				got["without bytes "+m.Files[0].Stor]++
				continue
			}
			digest := sha1.Sum(b)
			if err != nil || status != 200 || hex.EncodeToString(digest[:]) != m.Files[0].SHA1 {
				t.Errorf("%q: %s (%s): %d %v", stor, m.UUID, m.Files[0].Stor, status, err)
			}
			got[m.Files[0].Stor]++
			if m.Icon != nil {
				icon := wantStatus(t, in.LocalURL()+"/images/"+m.UUID+"/icon", 200)
				if digest := sha1.Sum(icon); hex.EncodeToString(digest[:]) != m.Icon.SHA1 {
					t.Errorf("%q: icon of %s", stor, m.UUID)
				}
				got["icons "+m.Icon.Stor]++
			}
		}
		if got["local"] != sum.Files || got["manta"] != sum.MantaFiles || got["without bytes local"] != 0 || got["without bytes manta"] == 0 {
			t.Errorf("%q: %v, summary %+v", stor, got, sum)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALocalOnlyInstanceAndWhatItCannotBeSeededWith(t *testing.T) {
	l := up(t, Config{Instances: 1, Storage: "local"})
	s := l.State()
	conf, err := zone{&s.Instances[0]}.readConfig()
	if err != nil || !slices.Equal(conf.StorageTypes, []string{"local"}) || conf.Manta == nil {
		t.Errorf("%+v %v", conf, err)
	}
	if _, err := connect(t, s.Dir).Seed(t.Context(), "images0", SeedRequest{Images: 3, Stor: "mixed"}); code(err) != fail.Refused {
		t.Errorf("%v", err)
	}
	if _, err := connect(t, s.Dir).Seed(t.Context(), "images0", SeedRequest{Images: 3, Stor: "tape"}); code(err) != fail.Usage {
		t.Errorf("%v", err)
	}
	if sum, err := l.Seed(t.Context(), "images0", SeedRequest{Images: 10, Files: 3}); err != nil || sum.Files != 3 {
		t.Errorf("%+v %v", sum, err)
	}
	if _, err := Up(t.Context(), Config{Dir: t.TempDir(), Storage: "tape"}); code(err) != fail.Usage {
		t.Errorf("%v", err)
	}
	none := up(t, Config{Instances: 1, NoManta: true}).State()
	if conf, err := (zone{&none.Instances[0]}).readConfig(); err != nil || !slices.Equal(conf.StorageTypes, []string{"local"}) {
		t.Errorf("%v %v", conf.StorageTypes, err)
	}
}

func TestKeyDelayAndSeedHoldForTheNextStarts(t *testing.T) {
	dir := t.TempDir()
	start := func(cfg Config) State {
		t.Helper()
		cfg.Dir = dir
		l := up(t, cfg)
		defer l.Close()
		return l.State()
	}
	delay, dice := 20*time.Millisecond, uint64(7)
	if s := start(Config{KeyDelay: &delay, Seed: &dice}); s.KeyDelay != delay || s.Seed != 7 {
		t.Errorf("%v %d", s.KeyDelay, s.Seed)
	}
	if s := start(Config{}); s.KeyDelay != delay || s.Seed != 7 {
		t.Errorf("forgotten: %v %d", s.KeyDelay, s.Seed)
	}
	delay, dice = 0, 0
	start(Config{KeyDelay: &delay, Seed: &dice})
	if s := start(Config{}); s.KeyDelay != 0 || s.Seed != 0 {
		t.Errorf("not taken back: %v %d", s.KeyDelay, s.Seed)
	}
	delay = -1
	if _, err := Up(t.Context(), Config{Dir: dir, KeyDelay: &delay}); code(err) != fail.Usage {
		t.Errorf("%v", err)
	}
}

func TestANewKeyTakesItsTimeAfterARestartToo(t *testing.T) {
	dir := t.TempDir()
	delay := 400 * time.Millisecond
	if err := up(t, Config{Dir: dir, KeyDelay: &delay}).Close(); err != nil {
		t.Fatal(err)
	}
	l := up(t, Config{Dir: dir, Instances: 1})
	z := zone{&l.state.Instances[0]}
	put := func() error {
		u, err := newUploader(l.state.Manta.URL, "bob", z.path(z.Key))
		if err != nil {
			t.Fatal(err)
		}
		defer u.close()
		return u.put(t.Context(), "/bob/stor/x", []byte("x"))
	}
	refused := 0
	for range 3 { // the front ends learn it one by one
		if err := put(); err != nil && strings.Contains(err.Error(), "403") {
			refused++
		}
	}
	if refused == 0 {
		t.Error("the new key is known everywhere at once")
	}
	waitFor(t, "the key everywhere", func() bool {
		for range 3 { // the front ends take turns
			if put() != nil {
				return false
			}
		}
		return true
	})
}

func TestTheSameSeedMakesTheSameImagesWithAndWithoutManta(t *testing.T) {
	var trees []string
	for _, cfg := range []Config{{Instances: 1}, {Instances: 1, NoManta: true}} {
		l := up(t, cfg)
		if _, err := l.Seed(t.Context(), "images0", SeedRequest{Images: 30, Files: 30, Seed: 9}); err != nil {
			t.Fatal(err)
		}
		s := l.State()
		var b bytes.Buffer
		for _, m := range manifests(t, &s.Instances[0]) {
			fmt.Fprintln(&b, m.UUID, m.Files, m.Icon != nil)
		}
		trees = append(trees, b.String())
	}
	if trees[0] != trees[1] {
		t.Error("they differ")
	}
}

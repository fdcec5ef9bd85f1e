package seed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Size distributions of image files.
const (
	Small = "small" // 1 to 64 KiB, for tests
	Real  = "real"  // log-normal around 180 MiB, bounded by MaxSize
)

// Where the files with bytes are.
const (
	Local = "local" // on local disk; those beyond are in Manta
	Manta = "manta" // in Manta
	Mixed = "mixed" // every other one in Manta
)

// Config says what to make.
type Config struct {
	// DataDir is the instance's data directory, <root>/data/imgapi.
	DataDir string
	// Images is the number of images.
	Images int
	// SizeDist is Small (the default) or Real.
	SizeDist string
	// Seed is where all chance comes from.
	Seed uint64
	// Files bounds the files with bytes, on local disk and in Manta each, counted
	// from the first image. Every other image's file is in Manta as far as its
	// manifest says, and nowhere. Negative means all, but no more than 1000.
	Files int
	// Stor is Local (the default), Manta or Mixed.
	Stor string
	// Put stores bytes in the instance's place in Manta, under names such as
	// images/<xxx>/<uuid>/file0; it is called from several goroutines. Nil means
	// that there is no Manta: files there have no bytes.
	Put func(ctx context.Context, name string, body io.Reader) error
	// MaxSize bounds a Real file, in bytes; 0 means 64 MiB.
	MaxSize int64
	// Mode is the server's mode, public (the default) or private: each refuses
	// the other's manifests.
	Mode string
	// Channels are the names of the server's channels, nil when it has none.
	Channels []string
	// Done is called after each image; may be nil.
	Done func()
}

// Summary is what was made.
type Summary struct {
	Images      int   `json:"images"`
	Files       int   `json:"files"` // on local disk
	FileBytes   int64 `json:"file_bytes"`
	MantaFiles  int   `json:"manta_files"` // in Manta, with bytes
	MantaBytes  int64 `json:"manta_bytes"`
	Icons       int   `json:"icons"`
	Incremental int   `json:"incremental"` // images with an origin
	Leftovers   int   `json:"leftovers"`   // aborted uploads, file0.<request id>
}

// Check fills in the defaults and tells what is wrong with a configuration.
func (c *Config) Check() error {
	if c.SizeDist == "" {
		c.SizeDist = Small
	}
	if c.Stor == "" {
		c.Stor = Local
	}
	if c.Mode == "" {
		c.Mode = "public"
	}
	if c.MaxSize == 0 {
		c.MaxSize = 64 << 20
	}
	if c.Files < 0 {
		c.Files = min(c.Images, 1000)
	}
	switch {
	case c.DataDir == "":
		return errors.New("seed: no data directory")
	case c.Images < 0 || c.Images > 5_000_000:
		return fmt.Errorf("seed: %d images: out of range", c.Images)
	case c.Files > c.Images:
		return fmt.Errorf("seed: %d files for %d images", c.Files, c.Images)
	case c.SizeDist != Small && c.SizeDist != Real:
		return fmt.Errorf("seed: unknown size distribution %q (small, real)", c.SizeDist)
	case c.Stor != Local && c.Stor != Manta && c.Stor != Mixed:
		return fmt.Errorf("seed: unknown storage %q (local, manta, mixed)", c.Stor)
	case c.MaxSize < 1<<10:
		return fmt.Errorf("seed: largest file of %d bytes: at least 1024", c.MaxSize)
	case c.Mode != "public" && c.Mode != "private":
		return fmt.Errorf("seed: unknown mode %q (public, private)", c.Mode)
	}
	return nil
}

// Run makes the images. It may be called again after an error or a cancelled
// context: what is there is overwritten with the same.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if err := cfg.Check(); err != nil {
		return Summary{}, err
	}
	for _, d := range []string{"manifests", "images", "archive"} {
		if err := os.MkdirAll(filepath.Join(cfg.DataDir, d), 0o755); err != nil {
			return Summary{}, err
		}
	}
	m := &maker{cfg: cfg, products: products()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= cfg.Images {
					return
				}
				if err := m.image(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return m.summary(), context.Cause(ctx)
	}
	return m.summary(), nil
}

// maker makes images, several at once.
type maker struct {
	cfg      Config
	products []product

	images, files, bytes, icons, deltas, leftover, mantaFiles, mantaBytes atomic.Int64
}

func (m *maker) summary() Summary {
	return Summary{Images: int(m.images.Load()), Files: int(m.files.Load()), FileBytes: m.bytes.Load(),
		MantaFiles: int(m.mantaFiles.Load()), MantaBytes: m.mantaBytes.Load(),
		Icons: int(m.icons.Load()), Incremental: int(m.deltas.Load()), Leftovers: int(m.leftover.Load())}
}

// dice is the chance of image i for one purpose: purposes do not disturb each
// other, so that another file size does not change a name.
func (m *maker) dice(i int, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(m.cfg.Seed*0x9e3779b97f4a7c15+purpose, uint64(i)))
}

const (
	forIdentity uint64 = iota + 1
	forManifest
	forFile
	forIcon
)

// place says where the file of image i is and whether it has bytes.
func (m *maker) place(i int) (stor string, bytes bool) {
	n := m.cfg.Files
	switch m.cfg.Stor {
	case Manta:
		return Manta, i < n && m.cfg.Put != nil
	case Mixed:
		if i%2 == 0 && i/2 < n {
			return Local, true
		}
		return Manta, i/2 < n && m.cfg.Put != nil
	}
	if i < n {
		return Local, true
	}
	return Manta, i < 2*n && m.cfg.Put != nil
}

// image makes image i: files first, then archive, then manifest.
func (m *maker) image(ctx context.Context, i int) error {
	im := m.describe(i)
	when, err := time.Parse(stamp, im.when)
	if err != nil {
		return err
	}
	dir := filepath.Join(m.cfg.DataDir, "images", im.raw.UUID[:3], im.raw.UUID)
	if im.hasFile {
		switch stor, bytes := m.place(i); {
		case stor == Local:
			err = m.file(i, im, dir, when)
		case bytes:
			err = m.mantaFile(ctx, i, im)
		default:
			im.raw.Files = []file{m.distantFile(i, im)}
		}
		if err != nil {
			return err
		}
	}
	if im.icon {
		if err := m.icon(ctx, i, im, dir, when); err != nil {
			return err
		}
	}
	if im.raw.Origin != "" {
		m.deltas.Add(1)
	}
	archive := filepath.Join(m.cfg.DataDir, "archive", im.raw.UUID[:3])
	if err := os.MkdirAll(archive, 0o755); err != nil {
		return err
	}
	if err := writeAt(filepath.Join(archive, im.raw.UUID+".json"), encode(im.public()), when); err != nil {
		return err
	}
	if err := writeAt(filepath.Join(m.cfg.DataDir, "manifests", im.raw.UUID+".raw"), encode(im.raw), when); err != nil {
		return err
	}
	m.images.Add(1)
	if m.cfg.Done != nil {
		m.cfg.Done()
	}
	return nil
}

func writeAt(path string, data []byte, when time.Time) error {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, when, when)
}

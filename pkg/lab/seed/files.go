package seed

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/dsnet/compress/bzip2"
	"github.com/ulikunitz/xz"
)

// slowLimit is the largest payload given to bzip2 and xz, whose writers manage a
// few MB a second; above it the file is gzip.
const slowLimit = 4 << 20

// file writes the image's file and enters it in the manifest. Now and then an
// aborted upload stays beside it.
func (m *maker) file(i int, im *imageSpec, dir string, when time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d := m.dice(i, forFile)
	size := m.size(d)
	f := file{Compression: compression(d, size), Stor: Local, MTime: im.when, DatasetGUID: guid(im, d)}
	path := filepath.Join(dir, "file0")
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	sum := newSums(out)
	err = payload(sum, f.Compression, size, d)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.Chtimes(path, when, when); err != nil {
		return err
	}
	f.Size, f.SHA1, f.ContentMD5 = sum.n, sum.hex(), sum.base64()
	im.raw.Files = []file{f}
	m.files.Add(1)
	m.bytes.Add(f.Size)
	if i%97 == 11 {
		m.leftover.Add(1)
		return writeAt(filepath.Join(dir, "file0."+uuidFrom(d)), []byte("half an upload"), when)
	}
	return nil
}

// mantaFile puts the image's file into Manta while it is made, and enters it in
// the manifest.
func (m *maker) mantaFile(ctx context.Context, i int, im *imageSpec) error {
	d := m.dice(i, forFile)
	size := m.size(d)
	f := file{Compression: compression(d, size), Stor: Manta, MTime: im.when, DatasetGUID: guid(im, d)}
	r, w := io.Pipe()
	sum := newSums(w)
	made := make(chan error, 1)
	go func() {
		err := payload(sum, f.Compression, size, d)
		made <- err
		w.CloseWithError(err) // nil is the end of the file
	}()
	name := mantaName(im, "file0")
	err := m.cfg.Put(ctx, name, r)
	r.CloseWithError(errors.New("not wanted any more"))
	if err = cmp.Or(err, <-made); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f.Size, f.SHA1, f.ContentMD5 = sum.n, sum.hex(), sum.base64()
	im.raw.Files = []file{f}
	m.mantaFiles.Add(1)
	m.mantaBytes.Add(f.Size)
	return nil
}

func mantaName(im *imageSpec, name string) string {
	return "images/" + im.raw.UUID[:3] + "/" + im.raw.UUID + "/" + name
}

// distantFile is a file that lies in Manta: its numbers are believable, its
// bytes do not exist.
func (m *maker) distantFile(i int, im *imageSpec) file {
	d := m.dice(i, forFile)
	size := m.size(d)
	var b [36]byte
	for j := range b {
		b[j] = byte(d.Uint32())
	}
	return file{SHA1: hex.EncodeToString(b[:20]), Size: size, ContentMD5: base64.StdEncoding.EncodeToString(b[20:36]),
		MTime: im.when, Stor: Manta, Compression: compression(d, size), DatasetGUID: guid(im, d)}
}

func guid(im *imageSpec, d *rand.Rand) string {
	if im.raw.Type != "zone-dataset" {
		return ""
	}
	return fmt.Sprint(d.Uint64())
}

// size draws the length of the payload in bytes.
func (m *maker) size(d *rand.Rand) int64 {
	if m.cfg.SizeDist == Small {
		return int64(math.Exp(d.Float64()*math.Log(63<<10))) + 1<<10 - 1
	}
	size := int64(math.Exp(d.NormFloat64()*1.2) * (180 << 20))
	return min(max(size, 1<<20), m.cfg.MaxSize)
}

func compression(d *rand.Rand, size int64) string {
	switch n := d.IntN(100); {
	case n < 10:
		return "none"
	case size > slowLimit || n < 80:
		return "gzip"
	case n < 88:
		return "bzip2"
	default:
		return "xz"
	}
}

// payload writes size bytes of content in the given compression.
func payload(w io.Writer, compression string, size int64, d *rand.Rand) error {
	src := &noise{left: size, pcg: rand.NewPCG(d.Uint64(), d.Uint64())}
	var zw io.WriteCloser
	var err error
	switch compression {
	case "gzip":
		level := gzip.BestSpeed
		if size > slowLimit {
			level = gzip.HuffmanOnly
		}
		zw, err = gzip.NewWriterLevel(w, level)
	case "bzip2":
		zw, err = bzip2.NewWriter(w, &bzip2.WriterConfig{Level: 1})
	case "xz":
		zw, err = xz.WriterConfig{DictCap: 1 << 16}.NewWriter(w)
	default:
		_, err = io.Copy(w, src)
		return err
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(zw, src); err != nil {
		return err
	}
	return zw.Close()
}

// noise is content that compresses a little, as file system streams do: three
// parts of chance and one of nothing.
type noise struct {
	left int64
	pcg  *rand.PCG
	at   int64
	word [8]byte
}

func (n *noise) Read(b []byte) (int, error) {
	if n.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), n.left)]

	for i := range b {
		if n.at%8 == 0 {
			var v uint64
			if n.at&0x1800 != 0x1800 {
				v = n.pcg.Uint64()
			}
			binary.LittleEndian.PutUint64(n.word[:], v)
		}
		b[i] = n.word[n.at%8]
		n.at++
	}
	n.left -= int64(len(b))
	return len(b), nil
}

// sums hashes what it passes on.
type sums struct {
	w         io.Writer
	n         int64
	sha1, md5 hash.Hash
}

func newSums(w io.Writer) *sums { return &sums{w: w, sha1: sha1.New(), md5: md5.New()} }

func (s *sums) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	s.sha1.Write(b[:n])
	s.md5.Write(b[:n])
	return n, err
}

func (s *sums) hex() string    { return hex.EncodeToString(s.sha1.Sum(nil)) }
func (s *sums) base64() string { return base64.StdEncoding.EncodeToString(s.md5.Sum(nil)) }

// icon draws a small PNG and keeps it where the image's file is.
func (m *maker) icon(ctx context.Context, i int, im *imageSpec, dir string, when time.Time) error {
	d := m.dice(i, forIcon)
	pic := image.NewRGBA(image.Rect(0, 0, 16, 16))
	for y := range 16 {
		for x := range 16 {
			pic.Set(x, y, color.RGBA{R: uint8(d.Uint32()), G: uint8(x * 16), B: uint8(y * 16), A: 255})
		}
	}
	var b bytes.Buffer
	sum := newSums(&b)
	if err := png.Encode(sum, pic); err != nil {
		return err
	}
	stor, _ := m.place(i)
	im.raw.Icon = &icon{SHA1: sum.hex(), Size: sum.n, ContentType: "image/png", ContentMD5: sum.base64(), MTime: im.when, Stor: stor}
	m.icons.Add(1)
	if stor == Manta {
		return m.cfg.Put(ctx, mantaName(im, "icon"), &b)
	}
	return writeAt(filepath.Join(dir, "icon"), b.Bytes(), when)
}

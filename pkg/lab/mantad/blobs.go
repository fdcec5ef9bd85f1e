package mantad

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	smallBody = 64 << 10  // bodies up to this go into packs
	packSize  = 128 << 20 // a pack is closed to new bodies beyond this
	chunkSize = 256 << 10 // unit of streaming
)

// blobs keeps the bodies: small ones appended to packs, large ones in files.
// A body nobody refers to is garbage and goes at the next start at the latest.
type blobs struct {
	dir    string
	small  sync.Pool // *[]byte of smallBody+1
	chunks sync.Pool // *[]byte of chunkSize

	mu    sync.Mutex
	packs map[uint32]*pack
	cur   *pack // accepts bodies
	last  uint32
}

type pack struct {
	n    uint32
	f    *os.File
	size int64
	live int
}

// body is where an upload went.
type body struct {
	size int64
	md5  [16]byte
	pack uint32
	off  int64
	file string
}

var errTooLarge = errors.New("body exceeds its limit")

func newBlobs(dir string) (*blobs, error) {
	b := &blobs{dir: dir, packs: map[uint32]*pack{}}
	b.small.New = func() any { p := make([]byte, smallBody+1); return &p }
	b.chunks.New = func() any { p := make([]byte, chunkSize); return &p }
	for _, d := range []string{"packs", "objects"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *blobs) packPath(n uint32) string {
	return filepath.Join(b.dir, "packs", fmt.Sprintf("%08d.pack", n))
}

func (b *blobs) filePath(id [16]byte) string {
	name := formatUUID(id)
	return filepath.Join(b.dir, "objects", name[:2], name)
}

// load opens the packs that live counts refer to and removes every body that
// nothing refers to.
func (b *blobs) load(live map[uint32]int, files map[[16]byte]bool) error {
	names, err := os.ReadDir(filepath.Join(b.dir, "packs"))
	if err != nil {
		return err
	}
	for _, de := range names {
		n64, err := strconv.ParseUint(strings.TrimSuffix(de.Name(), ".pack"), 10, 32)
		if err != nil {
			continue // not ours
		}
		n := uint32(n64)
		b.last = max(b.last, n)
		if live[n] > 0 {
			err = b.openPack(n, live[n])
		} else {
			err = os.Remove(b.packPath(n))
		}
		if err != nil {
			return err
		}
	}
	for n := range live {
		if b.packs[n] == nil {
			return fmt.Errorf("%s: missing", b.packPath(n))
		}
	}
	return b.sweep(files)
}

func (b *blobs) openPack(n uint32, live int) error {
	f, err := os.Open(b.packPath(n))
	if err != nil {
		return err
	}
	b.packs[n] = &pack{n: n, f: f, live: live}
	return nil
}

// sweep removes files of objects that were never committed or are gone.
func (b *blobs) sweep(keep map[[16]byte]bool) error {
	return filepath.WalkDir(filepath.Join(b.dir, "objects"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var id [16]byte
		raw, err := hex.DecodeString(strings.ReplaceAll(d.Name(), "-", ""))
		if err != nil || copy(id[:], raw) != 16 || keep[id] {
			return nil
		}
		return os.Remove(p)
	})
}

// put stores what r gives, at most limit bytes, under the object's id. On error
// nothing is left.
func (b *blobs) put(id [16]byte, r io.Reader, limit int64) (body, error) {
	p := b.small.Get().(*[]byte)
	defer b.small.Put(p)
	n, err := fill(r, *p)
	switch {
	case int64(n) > limit:
		return body{}, errTooLarge
	case err == io.EOF && n <= smallBody:
		return b.putSmall((*p)[:n])
	case err != nil && err != io.EOF:
		return body{}, err
	}
	return b.putLarge(id, (*p)[:n], r, limit)
}

func (b *blobs) putSmall(data []byte) (body, error) {
	out := body{size: int64(len(data)), md5: md5.Sum(data)}
	if len(data) == 0 {
		return out, nil
	}
	pk, off, err := b.reserve(int64(len(data)))
	if err != nil {
		return body{}, err
	}
	out.pack, out.off = pk.n, off
	if _, err := pk.f.WriteAt(data, off); err != nil {
		return body{}, errors.Join(err, b.drop(out))
	}
	return out, nil
}

// reserve takes room in the current pack.
func (b *blobs) reserve(n int64) (*pack, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cur == nil || b.cur.size+n > packSize {
		f, err := os.OpenFile(b.packPath(b.last+1), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, 0, err
		}
		b.last++
		old := b.cur
		b.cur = &pack{n: b.last, f: f}
		b.packs[b.last] = b.cur
		if old != nil && old.live == 0 {
			if err := b.removePack(old); err != nil {
				return nil, 0, err
			}
		}
	}
	off := b.cur.size
	b.cur.size += n
	b.cur.live++
	return b.cur, off, nil
}

func (b *blobs) removePack(p *pack) error {
	delete(b.packs, p.n)
	return errors.Join(os.Remove(b.packPath(p.n)), p.f.Close())
}

// putLarge streams to a file of its own. Hashing runs beside reading and
// writing: MD5 alone takes about as long as the rest together.
func (b *blobs) putLarge(id [16]byte, head []byte, r io.Reader, limit int64) (out body, err error) {
	out.file = b.filePath(id)
	f, err := os.OpenFile(out.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(out.file), 0o700); err == nil {
			f, err = os.OpenFile(out.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return body{}, err
	}
	sum := make(chan [16]byte, 1)
	work := make(chan *[]byte, 4)
	go func() {
		h := md5.New()
		h.Write(head)
		for p := range work {
			h.Write(*p)
			*p = (*p)[:cap(*p)]
			b.chunks.Put(p)
		}
		sum <- [16]byte(h.Sum(nil))
	}()
	out.size, err = b.stream(f, head, r, limit, work)
	close(work)
	out.md5 = <-sum
	err = errors.Join(err, f.Close())
	if err != nil {
		return body{}, errors.Join(err, os.Remove(out.file))
	}
	return out, nil
}

func (b *blobs) stream(f *os.File, head []byte, r io.Reader, limit int64, work chan<- *[]byte) (int64, error) {
	if _, err := f.Write(head); err != nil {
		return 0, err
	}
	size := int64(len(head))
	for {
		p := b.chunks.Get().(*[]byte)
		n, rerr := fill(r, *p)
		*p = (*p)[:n]
		size += int64(n)
		if size > limit {
			return size, errTooLarge
		}
		if _, err := f.Write(*p); err != nil {
			return size, err
		}
		work <- p
		if rerr == io.EOF {
			return size, nil
		}
		if rerr != nil {
			return size, rerr
		}
	}
}

// fill reads until p is full or r ends, and keeps the reader's own error.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// drop gives a body up.
func (b *blobs) drop(o body) error {
	if o.file != "" {
		return os.Remove(o.file)
	}
	if o.pack == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.packs[o.pack]
	if p == nil {
		return nil
	}
	if p.live--; p.live > 0 || p == b.cur {
		return nil
	}
	return b.removePack(p)
}

// open returns a body for reading at any offset.
func (b *blobs) open(e *entry) (io.ReaderAt, io.Closer, error) {
	if e.pack == 0 {
		f, err := os.Open(b.filePath(e.id))
		return f, f, err
	}
	b.mu.Lock()
	p := b.packs[e.pack]
	b.mu.Unlock()
	if p == nil {
		return nil, nil, fs.ErrNotExist
	}
	return io.NewSectionReader(p.f, e.off, e.size), io.NopCloser(nil), nil
}

func (b *blobs) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, p := range b.packs {
		err = errors.Join(err, p.f.Close())
	}
	return err
}

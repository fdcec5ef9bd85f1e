package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

// Source is content that can be opened more than once, so that an upload can be
// repeated. Size is the exact length in bytes. A Put whose context ends does not
// wait for a Read that hangs: the content is closed when that Read has returned.
type Source interface {
	Open() (io.ReadCloser, error)
	Size() int64
}

// Bytes is a Source over a slice.
type Bytes []byte

// Open returns a reader of the slice.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Size returns its length.
func (b Bytes) Size() int64 { return int64(len(b)) }

// body is the content of one attempt.
type body interface {
	io.ReadCloser
	// finished says whether the last byte was handed out: before that the service
	// cannot have stored anything.
	finished() bool
	sum() []byte                // MD5 of all, found or believed; valid once finished
	fault() error               // what went wrong with the source, nil if nothing
	settle(ctx context.Context) // waits until nothing touches the source any more
}

// smallBody is content held in memory.
type smallBody struct {
	data []byte
	md5  [md5.Size]byte
	r    *bytes.Reader
	done *atomic.Bool // shared with the copies that again makes
}

func newSmallBody(data []byte, sum [md5.Size]byte) *smallBody {
	b := &smallBody{data: data, md5: sum, r: bytes.NewReader(data), done: new(atomic.Bool)}
	b.done.Store(len(data) == 0)
	return b
}

// again is http.Request.GetBody: net/http calls it only when not a byte of the
// request was written, because a kept connection had been closed meanwhile.
func (b *smallBody) again() (io.ReadCloser, error) {
	return &smallBody{data: b.data, md5: b.md5, r: bytes.NewReader(b.data), done: b.done}, nil
}

func (b *smallBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.r.Len() == 0 {
		b.done.Store(true)
	}
	return n, err
}

func (b *smallBody) Close() error           { return nil }
func (b *smallBody) finished() bool         { return b.done.Load() }
func (b *smallBody) sum() []byte            { return b.md5[:] }
func (b *smallBody) fault() error           { return nil }
func (b *smallBody) settle(context.Context) {}

// readSmall reads a source into memory, checking its length. A source that hangs
// is left to itself when ctx ends.
func readSmall(ctx context.Context, src Source) ([]byte, error) {
	done := make(chan struct{})
	var read []byte
	var failed error
	go func() {
		defer close(done)
		read, failed = readAll(src)
	}()
	select {
	case <-done:
		return read, failed
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

func readAll(src Source) ([]byte, error) {
	rc, err := src.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	size := src.Size()
	buf := make([]byte, size+1)
	n, err := io.ReadFull(rc, buf)
	switch {
	case err == nil:
		return nil, fmt.Errorf("longer than %d bytes", size)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, err
	case int64(n) < size:
		return nil, fmt.Errorf("%d bytes instead of %d", n, size)
	}
	return buf[:size], nil
}

const (
	chunkSize = 256 << 10
	maxChunks = 4 // in flight: read, hashed, sent, and one to spare
)

// chunk is a piece of a large body; it is free when both the sender and the hasher
// are through with it.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

// streamBody reads a source ahead, hashes it and hands it out, the three at the
// same time. Its last chunk is handed out only when the source has proved to end
// there.
type streamBody struct {
	size   int64
	known  []byte // MD5 that is believed; then nothing is hashed
	toSend chan *chunk
	toHash chan *chunk
	free   chan *chunk
	quit   chan struct{}
	once   sync.Once
	cur    *chunk
	off    int
	sent   int64
	all    atomic.Bool
	digest hash.Hash
	hashed chan struct{} // closed when the hasher has ended
	closed chan struct{} // closed when the reader has ended and the source is closed
	err    error         // of the source; read after toSend is closed
	failed atomic.Pointer[error]
}

// newStreamBody opens src and starts reading it, and hashing it unless its MD5 is
// known.
func newStreamBody(src Source, known []byte) (*streamBody, error) {
	rc, err := src.Open()
	if err != nil {
		return nil, err
	}
	b := &streamBody{
		size:   src.Size(),
		known:  known,
		toSend: make(chan *chunk, maxChunks),
		toHash: make(chan *chunk, maxChunks),
		free:   make(chan *chunk, maxChunks),
		quit:   make(chan struct{}),
		digest: md5.New(),
		hashed: make(chan struct{}),
		closed: make(chan struct{}),
	}
	go b.read(rc)
	go b.hash()
	return b, nil
}

// read fills chunks until the source ends, fails or is no longer wanted.
func (b *streamBody) read(rc io.ReadCloser) {
	defer close(b.closed)
	defer rc.Close()
	defer close(b.toSend)
	defer close(b.toHash)
	made, left := 0, b.size
	for left > 0 {
		c := b.take(&made, left)
		if c == nil {
			return
		}
		n, err := io.ReadFull(rc, c.buf[:min(left, chunkSize)])
		left -= int64(n)
		if err == nil && left == 0 {
			err = probeEnd(rc, b.size)
		} else if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("%d bytes instead of %d", b.size-left, b.size)
		}
		if err != nil {
			b.err = err
			b.failed.Store(&err)
			return
		}
		c.n = n
		// Neither send can block: no more chunks exist than the channels hold.
		if c.refs.Store(1); b.known == nil {
			c.refs.Store(2)
			b.toHash <- c
		}
		b.toSend <- c
	}
}

// take returns a chunk to fill, nil if the body was closed.
func (b *streamBody) take(made *int, left int64) *chunk {
	select {
	case <-b.quit:
		return nil
	default:
	}
	if *made < maxChunks {
		select {
		case c := <-b.free:
			return c
		default:
			*made++
			return &chunk{buf: make([]byte, min(left, chunkSize))}
		}
	}
	select {
	case c := <-b.free:
		return c
	case <-b.quit:
		return nil
	}
}

// probeEnd makes sure that nothing follows.
func probeEnd(r io.Reader, size int64) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return fmt.Errorf("longer than %d bytes", size)
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

func (b *streamBody) hash() {
	defer close(b.hashed)
	for c := range b.toHash {
		b.digest.Write(c.buf[:c.n])
		b.release(c)
	}
}

func (b *streamBody) release(c *chunk) {
	if c.refs.Add(-1) == 0 {
		b.free <- c // has room for every chunk
	}
}

var errBodyClosed = errors.New("body is closed")

// nextChunk lends out the next piece; see chunker.
func (b *streamBody) nextChunk() ([]byte, func(), error) {
	if b.cur != nil { // the rest of one that Read began
		c, p := b.cur, b.cur.buf[b.off:b.cur.n]
		b.cur = nil
		b.count(len(p))
		return p, func() { b.release(c) }, nil
	}
	select {
	case c, ok := <-b.toSend:
		if !ok {
			return nil, nil, b.ending()
		}
		b.count(c.n)
		return c.buf[:c.n], func() { b.release(c) }, nil
	case <-b.quit:
		return nil, nil, errBodyClosed
	}
}

func (b *streamBody) ending() error {
	if b.err != nil {
		return b.err
	}
	if b.sent < b.size {
		return errBodyClosed
	}
	return io.EOF
}

func (b *streamBody) count(n int) {
	if b.sent += int64(n); b.sent == b.size {
		b.all.Store(true)
	}
}

func (b *streamBody) Read(p []byte) (int, error) {
	if b.cur == nil {
		select {
		case c, ok := <-b.toSend:
			if !ok {
				return 0, b.ending()
			}
			b.cur, b.off = c, 0
		case <-b.quit:
			return 0, errBodyClosed
		}
	}
	n := copy(p, b.cur.buf[b.off:b.cur.n])
	b.off += n
	b.count(n)
	if b.off == b.cur.n {
		b.release(b.cur)
		b.cur = nil
	}
	return n, nil
}

// Close stops the reader; the transport calls it, sometimes from another goroutine.
func (b *streamBody) Close() error {
	b.once.Do(func() { close(b.quit) })
	return nil
}

func (b *streamBody) finished() bool { return b.all.Load() }

func (b *streamBody) sum() []byte {
	if b.known != nil {
		return b.known
	}
	<-b.hashed
	return b.digest.Sum(nil)
}

func (b *streamBody) fault() error {
	if p := b.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// settle closes the body and waits for the source to be closed. A source whose
// Read hangs is waited for as long as ctx allows.
func (b *streamBody) settle(ctx context.Context) {
	b.Close()
	select {
	case <-b.closed:
	case <-ctx.Done():
	}
}

// rehash reads a source to its end for its MD5.
func rehash(ctx context.Context, src Source) ([]byte, error) {
	b, err := newStreamBody(src, nil)
	if err != nil {
		return nil, err
	}
	defer b.settle(ctx)
	defer context.AfterFunc(ctx, func() { b.Close() })()
	for {
		_, done, err := b.nextChunk()
		if err == io.EOF {
			return b.sum(), nil
		}
		if err != nil {
			return nil, err
		}
		done()
	}
}

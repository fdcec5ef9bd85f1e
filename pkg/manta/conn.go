package manta

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// stallConn ends a connection on which nothing moves in either direction for
// limit. Without it a peer that vanished in the middle of a body is waited for
// until the kernel gives up, hours later.
type stallConn struct {
	net.Conn
	limit time.Duration
	armed atomic.Int64 // unix nanoseconds of the last deadline set
}

// arm moves the deadline of both directions: while an upload runs, the reader
// waits for an answer that is not due yet.
func (c *stallConn) arm() {
	now := time.Now()
	last := c.armed.Load()
	if now.UnixNano()-last < int64(c.limit/8) || !c.armed.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	c.Conn.SetDeadline(now.Add(c.limit)) // fails only on a closed connection, and then the next call says so
}

func (c *stallConn) Read(p []byte) (int, error) {
	c.arm()
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.arm()
	}
	return n, err
}

func (c *stallConn) Write(p []byte) (int, error) {
	c.arm()
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.arm()
	}
	return n, err
}

// batchConn lies under a TLS connection and gathers its records of up to 16 KiB
// into one system call while hold is set.
type batchConn struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	buf  []byte
}

// maxBatch bounds what is gathered: one chunk of an upload and its framing.
const maxBatch = chunkSize + 16<<10

func (c *batchConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hold {
		return c.Conn.Write(p)
	}
	if len(c.buf)+len(p) > maxBatch {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

func (c *batchConn) setHold(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = on
	if on {
		return nil
	}
	return c.flush()
}

func (c *batchConn) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// bulkConn is the connection net/http sees. It hands an upload's chunks to TLS
// (batch set) or the socket without copying them through net/http's 32 KiB
// buffer.
type bulkConn struct {
	net.Conn
	batch *batchConn
}

func (c *bulkConn) Write(p []byte) (int, error) {
	if c.batch == nil || len(p) <= 16<<10 { // one record anyway
		return c.Conn.Write(p)
	}
	if err := c.batch.setHold(true); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if ferr := c.batch.setHold(false); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// chunker is a body that can lend its buffers.
type chunker interface {
	// nextChunk returns the next bytes, io.EOF after the last; done gives the
	// buffer back.
	nextChunk() (p []byte, done func(), err error)
}

// ReadFrom is called by net/http for a request body, wrapped in a LimitedReader of
// the announced length.
func (c *bulkConn) ReadFrom(r io.Reader) (total int64, err error) {
	lr, ok := r.(*io.LimitedReader)
	if !ok {
		return io.CopyBuffer(writerOnly{c}, r, make([]byte, ioBuffer))
	}
	src, ok := lr.R.(chunker)
	if !ok {
		return io.CopyBuffer(writerOnly{c}, r, make([]byte, ioBuffer))
	}
	for lr.N > 0 {
		p, done, err := src.nextChunk()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := c.Write(p[:min(int64(len(p)), lr.N)])
		done()
		total += int64(n)
		lr.N -= int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writerOnly hides ReadFrom, which would call itself.
type writerOnly struct{ io.Writer }

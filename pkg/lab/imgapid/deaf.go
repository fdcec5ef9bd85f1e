package imgapid

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// deafListener makes connections that fall silent, as upstream's do, at a request
// with two Content-Length headers or with one beside Transfer-Encoding: no answer
// comes and nothing is closed until the socket's own time is over. Go's HTTP
// library would answer such a request, and does not tell a handler about it.
type deafListener struct {
	net.Listener
	timeout time.Duration
}

func (l deafListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &deafConn{Conn: c, timeout: l.timeout}, nil
}

// maxHead is how much of a request's head is looked at.
const maxHead = 64 << 10

// deafConn follows the requests on a connection by their heads and lengths. What
// it cannot follow any more, a chunked body for one, it lets pass unseen.
type deafConn struct {
	net.Conn
	timeout time.Duration
	head    []byte // of the request that is coming in
	skip    int64  // bytes of a body that are still to come
	blind   bool
}

// NetConn returns the connection below, as tls.Conn does.
func (c *deafConn) NetConn() net.Conn { return c.Conn }

// ReadFrom lets a plain connection keep the kernel's copy path.
func (c *deafConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.repels(b[:n]) {
		// whoever closes first ends it: the client, the process or the time
		if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err == nil {
			_, _ = io.Copy(io.Discard, c.Conn) // its error is one of those
		}
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	return n, err
}

// repels says whether a head that ends in b is one of those.
func (c *deafConn) repels(b []byte) bool {
	for len(b) > 0 && !c.blind {
		if c.skip > 0 {
			n := min(c.skip, int64(len(b)))
			c.skip, b = c.skip-n, b[n:]
			continue
		}
		from := max(0, len(c.head)-3)
		before := len(c.head)
		c.head = append(c.head, b...)
		end := bytes.Index(c.head[from:], []byte("\r\n\r\n"))
		if end < 0 {
			c.blind = len(c.head) > maxHead
			return false
		}
		end += from + 4
		b = b[end-before:]
		lengths, chunked := framing(c.head[:end])
		c.head = c.head[:0]
		switch {
		case len(lengths) > 1, len(lengths) == 1 && chunked:
			return true
		case chunked:
			c.blind = true
		case len(lengths) == 1:
			n, err := strconv.ParseInt(lengths[0], 10, 64)
			c.skip, c.blind = n, err != nil || n < 0
		}
	}
	return false
}

// framing finds the headers of a head that say how long the body is.
func framing(head []byte) (lengths []string, chunked bool) {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case !ok:
		case strings.EqualFold(name, "Content-Length"):
			lengths = append(lengths, strings.TrimSpace(value))
		case strings.EqualFold(name, "Transfer-Encoding"):
			chunked = true
		}
	}
	return lengths, chunked
}

// readAhead is how much of a body nobody wants upstream takes in.
const readAhead = 16 << 10

// stopReading is a request refused before its body was read: the answer is out,
// the rest of a large body is never taken, and its sender blocks until the
// socket's time is over.
func (c *call) stopReading() {
	_ = http.NewResponseController(c.w).Flush() // a client that is gone changes nothing
	if c.r.ContentLength >= 0 && c.r.ContentLength <= readAhead {
		_, _ = io.Copy(io.Discard, c.r.Body) // after it the connection is used again
		return
	}
	c.p.rest(c.p.cfg.socketTimeout())
	panic(http.ErrAbortHandler)
}

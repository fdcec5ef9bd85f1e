package fault

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// spoiler passes a response on and spoils its body.
type spoiler struct {
	http.ResponseWriter
	fault Fault
	set   *Set
	ctx   context.Context
	md5   string // lie: the Content-MD5 to claim

	begun  bool
	clean  bool  // nothing to spoil here
	over   bool  // the rest is swallowed, or the connection is cut
	length int64 // of the right body; -1 unknown
	limit  int64 // bytes that go through
	sent   int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *spoiler) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *spoiler) WriteHeader(status int) {
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.begun {
		return
	}
	w.begun = true
	if w.fault.Kind == Reset && w.fault.Bytes == 0 {
		w.cut(reset)
		return
	}
	h := w.Header()
	w.length = contentLength(h)
	if !w.spoils(status) {
		w.clean = true
		w.set.refund(w.fault.ID)
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.limit = w.fault.Bytes
	if w.limit == 0 || w.length >= 0 && w.limit >= w.length {
		w.limit = max(w.length, 0) / 2
	}
	if w.fault.Kind == Short && w.length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(w.limit, 10))
	}
	if w.md5 != "" && h.Get("Content-Md5") != "" {
		h.Set("Content-Md5", w.md5)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *spoiler) spoils(status int) bool {
	if w.fault.Kind == Reset {
		return true
	}
	return (status == http.StatusOK || status == http.StatusPartialContent) && w.length != 0
}

func (w *spoiler) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.over && w.fault.Kind == Short:
		return len(p), nil
	case w.over:
		return 0, errCut
	case w.clean:
		return w.ResponseWriter.Write(p)
	case w.fault.Kind == Corrupt || w.fault.Kind == Lie:
		return w.corrupt(p)
	}
	keep := p
	if left := w.limit - w.sent; int64(len(p)) > left {
		keep = p[:left]
	}
	n, err := w.ResponseWriter.Write(keep)
	w.sent += int64(n)
	if err != nil {
		return n, err
	}
	if w.sent < w.limit || len(keep) == len(p) && w.length < 0 {
		return n, nil
	}
	return w.stop(len(p))
}

// stop is called when the bytes that may pass have passed.
func (w *spoiler) stop(n int) (int, error) {
	switch w.fault.Kind {
	case Short:
		w.over = true
		return n, nil
	case Hang:
		w.flush()
		pause(w.ctx, w.fault.wait())
		w.cut(closePlain)
	case Reset:
		w.flush()
		w.cut(reset)
	default:
		w.flush()
		w.cut(closePlain)
	}
	return 0, errCut
}

// corrupt inverts one byte: at Bytes, or in the middle, or the first of a body
// of unknown length.
func (w *spoiler) corrupt(p []byte) (int, error) {
	if at := w.limit - w.sent; at >= 0 && at < int64(len(p)) {
		q := make([]byte, len(p))
		copy(q, p)
		q[at] ^= 0xff
		p = q
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// finish cuts a response that ended before its fault came to it.
func (w *spoiler) finish() {
	if w.begun && !w.clean && !w.over && (w.fault.Kind == Reset || w.fault.Kind == Truncate || w.fault.Kind == Hang) {
		_, _ = w.stop(0) // the connection is cut, there is nobody to tell
	}
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
}

// Flush passes on what is buffered, as http.Flusher.
func (w *spoiler) Flush() {
	if !w.over {
		w.flush()
	}
}

func (w *spoiler) flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the cut follows anyway
}

func (w *spoiler) cut(how func(net.Conn)) {
	w.over = true
	if how != nil && w.sent > 0 {
		// Give the bytes before the cut the time to be read: a reset drops
		// what the kernel has not delivered.
		pause(w.ctx, 20*time.Millisecond)
	}
	cutConn(w.ResponseWriter, how)
}

// cutConn takes the connection over and ends it. Where there is none to take (a
// recorder, or it is cut already) the response just ends.
func cutConn(w http.ResponseWriter, how func(net.Conn)) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		how(c)
	}
}

// closePlain ends a connection without TLS's goodbye, as a crashed peer does.
func closePlain(c net.Conn) {
	if t := tcp(c); t != nil {
		_ = t.Close() // nothing is lost that should arrive
		return
	}
	_ = c.Close() // not TCP: a plain close is the nearest there is
}

func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// sink is a response nobody reads.
type sink struct {
	header http.Header
	body   io.Writer
}

func newSink() *sink { return &sink{header: http.Header{}, body: io.Discard} }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return s.body.Write(p) }

// muted drops the answer to a request that was cut.
type muted struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController reach the connection.
func (m *muted) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// Flush hides the connection's own, which would answer 200.
func (m *muted) Flush() {}

func (m *muted) WriteHeader(int)             {}
func (m *muted) Write(p []byte) (int, error) { return len(p), nil }

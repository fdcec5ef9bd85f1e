package mantad

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Record is one request as it was answered. Status is 0 when the connection
// ended without an answer; sizes are those of the bodies, in bytes.
type Record struct {
	Time      time.Time
	Duration  time.Duration
	RequestID string
	Method    string
	Path      string // decoded
	Query     string // raw
	Status    int
	BytesIn   int64
	BytesOut  int64
}

// Stats counts requests since the start or the last ResetStats.
type Stats struct {
	Total    int64            `json:"total"`
	Methods  map[string]int64 `json:"methods"`
	Statuses map[int]int64    `json:"statuses"` // 0: no answer
	BytesIn  int64            `json:"bytes_in"`
	BytesOut int64            `json:"bytes_out"`
}

type stats struct {
	mu sync.Mutex
	s  Stats
}

func (s *stats) add(method string, status int, in, out int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s.Methods == nil {
		s.s.Methods, s.s.Statuses = map[string]int64{}, map[int]int64{}
	}
	s.s.Total++
	s.s.Methods[method]++
	s.s.Statuses[status]++
	s.s.BytesIn += in
	s.s.BytesOut += out
}

// Stats returns the counts so far. A request counts when it has ended.
func (s *Server) Stats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	c := s.stats.s
	c.Methods, c.Statuses = maps.Clone(c.Methods), maps.Clone(c.Statuses)
	return c
}

// ResetStats begins to count anew and returns the counts until now.
func (s *Server) ResetStats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	c := s.stats.s
	s.stats.s = Stats{}
	return c
}

// recorder counts a response and dates it when it begins.
type recorder struct {
	http.ResponseWriter
	start  time.Time
	clock  func() time.Time
	status int
	sent   int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
		h := w.Header()
		h.Set("Date", w.clock().UTC().Format(http.TimeFormat))
		h.Set("X-Response-Time", strconv.FormatInt(time.Since(w.start).Milliseconds(), 10))
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// ReadFrom keeps the kernel's copy path of a plain connection.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.sent += n
	return n, err
}

// Hijack notes that what was begun may never end.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// countedBody counts what was read of a request; the reader may be another
// goroutine than the one that asks.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

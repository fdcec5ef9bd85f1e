package mantad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	faults "github.com/tritonops/tritonops/pkg/lab/fault"
)

// Service is the name by which faults address this server.
const Service = "manta"

// Config says what a server is. Only Dir must be set.
type Config struct {
	Dir      string           // state; made if need be, used by one process at a time
	Name     string           // instance name for faults and x-server-name; default "manta"
	Accounts []Account        // added at start if missing
	Faults   *faults.Set      // consulted for every request; nil: none
	Clock    func() time.Time // default time.Now

	OmitListMD5   bool          // list without contentMD5, as old front ends
	MaxDirEntries int           // directory limit, default 1,000,000
	MaxObject     int64         // larger ones get 507, chunked ones 413; default no limit
	MaxStreaming  int64         // chunked bodies without max-content-length; default 5 GiB
	MaxCopies     int           // highest durability level, default 6
	DataTimeout   time.Duration // pause in a body until 408; default 45 s
	KeyDelay      time.Duration // time until the last front end knows a new key
	FrontEnds     int           // front ends that answer in turn, default 3; seen with KeyDelay

	// OnRequest, if set, is called after every request, from many goroutines.
	OnRequest func(Record)
}

// Server is the stand-in: an http.Handler with its state on disk.
type Server struct {
	cfg      Config
	lock     *durable.Lock
	store    *store
	accounts *directory
	verified memo
	handler  http.Handler
	stats    stats
	turn     atomic.Int64
	http     *http.Server
	closed   atomic.Bool
}

// New opens the state in cfg.Dir. An error is a [*durable.HeldError] when another
// process uses it.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if cfg.Dir == "" {
		return nil, errors.New("mantad: no directory")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.Acquire(filepath.Join(cfg.Dir, "lock"), "lab manta "+cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("mantad: %w", err)
	}
	s := &Server{cfg: cfg, lock: lock}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("mantad: %w", err), lock.Release())
	}
	s.handler = faults.Middleware(faults.Options{
		Set: cfg.Faults, Service: Service, Instance: cfg.Name,
		Error: func(w http.ResponseWriter, r *http.Request, status int, code, message string) {
			fault(status, code, "%s", message).write(w, r)
		},
	}, http.HandlerFunc(s.serve))
	s.http = s.newHTTP()
	return s, nil
}

func (c *Config) setDefaults() {
	c.Name = or(c.Name, "manta")
	c.MaxDirEntries = or(c.MaxDirEntries, 1_000_000)
	c.MaxStreaming = or(c.MaxStreaming, 5<<30)
	c.MaxCopies = or(c.MaxCopies, 6)
	c.DataTimeout = or(c.DataTimeout, 45*time.Second)
	c.FrontEnds = or(c.FrontEnds, 3)
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (s *Server) open() error {
	var err error
	if s.accounts, err = openDirectory(s.statePath("accounts.json")); err != nil {
		return err
	}
	if s.store, err = openStore(s.cfg.Dir); err != nil {
		return err
	}
	for _, a := range s.cfg.Accounts {
		if err := s.SetAccount(a); err != nil {
			return errors.Join(err, s.store.close())
		}
	}
	return nil
}

// newHTTP sets up HTTP/1.1 as the service's load balancer does it.
func (s *Server) newHTTP() *http.Server {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return &http.Server{
		Handler:           s,
		Protocols:         p,
		ReadHeaderTimeout: time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // broken connections are this server's business
	}
}

// Serve answers on l until Close, with TLS if conf is not nil. Partition faults
// apply to the connections of l.
func (s *Server) Serve(l net.Listener, conf *tls.Config) error {
	l = faults.Listener(l, s.cfg.Faults, Service, s.cfg.Name)
	if conf != nil {
		conf = conf.Clone()
		conf.NextProtos = []string{"http/1.1"}
		conf.DynamicRecordSizingDisabled = true // loopback: nothing to gain from small records
		l = tls.NewListener(l, conf)
	}
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits for the requests under way, or for ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	return errors.Join(s.http.Shutdown(ctx), s.Close())
}

// Close ends every connection and gives the state up. It may be called again.
func (s *Server) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(s.http.Close(), s.store.close(), s.lock.Release())
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rw := &recorder{ResponseWriter: w, start: start, clock: s.cfg.Clock}
	body := &countedBody{ReadCloser: r.Body}
	id := r.Header.Get("X-Request-Id")
	if id == "" {
		id = formatUUID(newID())
	}
	turn := s.turn.Add(1)
	front := int(turn % int64(s.cfg.FrontEnds))
	h := w.Header()
	h.Set("Server", "Manta")
	h.Set("X-Request-Id", id)
	h.Set("X-Server-Name", s.cfg.Name)
	if s.cfg.KeyDelay > 0 {
		h.Set("X-Server-Name", fmt.Sprintf("%s-%d", s.cfg.Name, front))
	}
	// A copy of the request: net/http looks at its own one to tell whether it may
	// wait for a body nobody asked for.
	r = r.WithContext(context.WithValue(r.Context(), frontKey{}, front))
	r.Body = body
	s.handler.ServeHTTP(rw, r)
	s.stats.add(r.Method, rw.status, body.n.Load(), rw.sent)
	if s.cfg.OnRequest != nil {
		s.cfg.OnRequest(Record{
			Time: start, Duration: time.Since(start), RequestID: id,
			Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
			Status: rw.status, BytesIn: body.n.Load(), BytesOut: rw.sent,
		})
	}
}

type frontKey struct{}

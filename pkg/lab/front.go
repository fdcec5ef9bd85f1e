package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

// front stands for the stock haproxy: it ends TLS with the certificate it read
// at its start and passes everything to the one IMGAPI process behind it. A
// refused connection is tried again three times, a second apart. Its second port
// is for balancers before it: no TLS, and a PROXY protocol header first.
type front struct {
	srv  *http.Server
	done chan struct{}
	once sync.Once
	why  string
}

// frontService is the front's name in faults.
const frontService = "haproxy"

func startFront(z zone, faults *fault.Set) (*front, error) {
	conf, err := tlsFrom(z.data("etc", "cert.pem"))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", loopback(z.HTTPSPort))
	if err != nil {
		return nil, err
	}
	balanced, err := net.Listen("tcp", loopback(z.ProxyPort))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	f := &front{done: make(chan struct{})}
	h := fault.Middleware(fault.Options{Set: faults, Service: frontService, Instance: z.Name}, newProxy(loopback(z.HTTPPort)))
	f.srv = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), IdleTimeout: 55 * time.Second, ReadHeaderTimeout: 55 * time.Second}
	for _, l := range []net.Listener{
		tls.NewListener(fault.Listener(l, faults, frontService, z.Name), conf),
		proxyListener{fault.Listener(balanced, faults, frontService, z.Name)},
	} {
		go func() {
			err := f.srv.Serve(l)
			if !errors.Is(err, http.ErrServerClosed) {
				f.end(err.Error())
			}
		}()
	}
	return f, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (f *front) Done() <-chan struct{} { return f.done }
func (f *front) Reason() string        { return f.why }
func (f *front) Kill()                 { f.end("killed") }

func (f *front) end(why string) {
	f.once.Do(func() {
		f.why = why
		_ = f.srv.Close() // what cannot be closed is closed already
		close(f.done)
	})
}

func newProxy(backend string) http.Handler {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100, IdleConnTimeout: 2 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialPatiently(ctx, dialer, backend) }}
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", backend, r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			r.Out.Header.Del("X-Forwarded-Host")
			r.Out.Header.Del("X-Forwarded-Proto")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			var op *net.OpError
			if errors.As(err, &op) && op.Op == "dial" {
				htmlError(w, http.StatusServiceUnavailable, "No server is available to handle this request.")
				return
			}
			htmlError(w, http.StatusBadGateway, "The server returned an invalid or incomplete response.")
		},
	}
}

func dialPatiently(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
	for attempt := 0; ; attempt++ {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil || attempt == 3 {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func htmlError(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Connection", "close")
	h.Set("Content-Type", "text/html")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html><body><h1>%d %s</h1>\n%s\n</body></html>\n", status, http.StatusText(status), text)
}

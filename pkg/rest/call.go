package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// call is a request made ready: the same for every attempt.
type call struct {
	method   string
	url      *url.URL
	shown    string // URL for messages: no query, it may hold what is not for logs
	header   http.Header
	body     []byte
	id       string
	repeat   bool // a further attempt is allowed
	changes  bool // not idempotent: a lost answer is an unknown outcome
	wantJSON bool
}

func (c *Client) newCall(req Request) (*call, error) {
	k := &call{method: req.Method, id: uuid.NewString(), wantJSON: req.WantJSON, header: c.cfg.Header.Clone()}
	if k.method == "" {
		k.method = http.MethodGet
	}
	switch k.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		k.repeat = !req.Once
	default:
		k.changes = true
	}
	u := *c.base
	escaped := u.EscapedPath() + req.Path
	plain, err := url.PathUnescape(escaped)
	if err != nil || !strings.HasPrefix(req.Path, "/") {
		return nil, fmt.Errorf("%s %s: path %q is not an escaped absolute path", k.method, u.String(), Clean(req.Path))
	}
	for seg := range strings.SplitSeq(req.Path, "/") {
		if plain, err := url.PathUnescape(seg); err != nil || plain == "." || plain == ".." {
			return nil, fmt.Errorf("%s %s: path %q climbs", k.method, u.String(), Clean(req.Path))
		}
	}
	u.Path, u.RawPath = plain, escaped
	k.shown = u.String()
	u.RawQuery = req.Query.Encode()
	k.url = &u
	if k.header == nil {
		k.header = http.Header{}
	}
	for name, values := range req.Header {
		k.header[http.CanonicalHeaderKey(name)] = values
	}
	k.setDefault("Accept", "application/json")
	k.setDefault("User-Agent", c.cfg.UserAgent)
	k.header.Set("X-Request-Id", k.id)
	if req.Body != nil {
		if k.body, err = json.Marshal(req.Body); err != nil {
			return nil, fmt.Errorf("%s %s: encode body: %w", k.method, k.shown, err)
		}
		k.header.Set("Content-Type", "application/json")
	}
	return k, nil
}

func (k *call) setDefault(name, value string) {
	if k.header.Get(name) == "" {
		k.header.Set(name, value)
	}
}

// request makes the request of one attempt. The flag turns true once headers
// went out: from then on the server may have acted.
func (k *call) request(ctx context.Context) (*http.Request, *atomic.Bool, error) {
	sent := new(atomic.Bool)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, k.url.String(), body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", k.method, k.shown, err)
	}
	req.Header = k.header.Clone()
	return req, sent, nil
}

func (k *call) response(resp *http.Response) *Response {
	return &Response{Status: resp.StatusCode, Header: resp.Header, RequestID: k.id, TLS: resp.TLS}
}

// fail makes the error of this call; resp may be nil.
func (k *call) fail(resp *http.Response, err error) *Error {
	e := &Error{Method: k.method, URL: k.shown, RequestID: k.id, Err: err}
	if resp != nil {
		e.Status = resp.StatusCode
	}
	return e
}

// lost makes the error of an attempt that got no answer.
func (k *call) lost(ctx context.Context, err error, sent bool) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its text repeats method and URL
	}
	var refused *redirectError
	e := k.fail(nil, err)
	switch {
	case errors.As(err, &refused):
		return e
	case k.changes && sent:
		e.Err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Err = fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, ctx.Err())
	case ctx.Err() != nil:
		e.Err = err
	default:
		e.Err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		var cert *tls.CertificateVerificationError
		e.passing = !errors.As(err, &cert) && !errors.Is(err, errPin)
	}
	return e
}

// attempts calls try until it succeeds, may not be repeated, or the attempts or
// ctx run out. The last error is returned.
func (c *Client) attempts(ctx context.Context, k *call, try func(context.Context) error) error {
	for n := 1; ; n++ {
		err := try(ctx)
		if err == nil || n >= c.cfg.Retry.Attempts || !k.repeat || ctx.Err() != nil {
			return err
		}
		var e *Error
		if !errors.As(err, &e) || !e.again() {
			return err
		}
		pause := c.cfg.Retry.pause(n, e.retryAfter)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
			return err // the pause would outlast the call
		}
		if c.cfg.Notify != nil {
			c.cfg.Notify(fmt.Sprintf("%v; attempt %d of %d in %s", e, n+1, c.cfg.Retry.Attempts, pause.Round(time.Millisecond)))
		}
		if sleep(ctx, pause) != nil {
			return err
		}
	}
}

// again says whether the same request may do better a moment later.
func (e *Error) again() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.passing
}

// pause is the wait before attempt n+1: doubled each time, with jitter over its
// upper half, at least what the server asked for, at most Max.
func (r Retry) pause(n int, asked time.Duration) time.Duration {
	d := r.Max
	if shift := n - 1; shift < 20 {
		d = min(r.Base<<shift, r.Max)
	}
	d = d/2 + rand.N(d/2+1)
	return min(max(d, asked), r.Max)
}

// retryAfter reads the seconds form of Retry-After; the date form is not used
// by the services.
func retryAfter(v string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

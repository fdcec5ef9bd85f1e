package manta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// request is one operation, which may take several attempts.
type request struct {
	op, method, path, query string

	accept string
	header http.Header // beyond those of every request; not changed
	cond   Condition
	open   func() (body, error)   // content of an attempt; nil if none
	size   int64                  // of the content
	expect bool                   // wait for 100 Continue before sending it
	direct bool                   // take no slot: a continuation of something under way
	rehash func() ([]byte, error) // MD5 of content that is only believed to have its sum; nil if it was hashed
	// handle judges a 2xx answer and owns resp.Body; nil discards it. A *Error it
	// returns may be retryable.
	handle   func(resp *http.Response, b body) *Error
	start    time.Time
	failures int // transient ones
	refusals int // of the key
	// applied is set when an attempt that failed may have taken effect.
	applied bool
}

// do runs a request to its end: attempts, waits, verdict.
func (c *Client) do(ctx context.Context, r *request) error {
	if err := r.cond.check(); err != nil {
		return fmt.Errorf("%s: %s: %w", r.path, r.op, err)
	}
	r.start = time.Now()
	for {
		e := c.attempt(ctx, r)
		if e == nil {
			return nil
		}
		wait, again := c.again(ctx, r, e)
		if !again {
			return coded(e)
		}
		c.cfg.Notify(fmt.Sprintf("%v; again in %v", e, wait.Round(10*time.Millisecond)))
		if err := sleep(ctx, wait); err != nil {
			e.cause = errors.Join(err, e.cause)
			return coded(e)
		}
	}
}

// attempt sends the request once.
func (c *Client) attempt(ctx context.Context, r *request) *Error {
	e := &Error{Op: r.op, Path: r.path}
	var b body
	if r.open != nil {
		var err error
		if b, err = r.open(); err != nil {
			e.kind, e.cause = ErrSource, err
			return e
		}
		defer b.settle(ctx)
		// The transport waits for a body that is being read, cancelled or not.
		defer context.AfterFunc(ctx, func() { b.Close() })()
	}
	var written atomic.Bool
	req, err := c.build(ctx, r, b, &written)
	if err != nil {
		e.cause = err
		return e
	}
	resp, err := c.roundTrip(req, r.direct)
	mayApply := written.Load() && (b == nil || b.finished())
	if err != nil {
		return c.lost(ctx, r, e, b, err, mayApply)
	}
	c.observeClock(resp)
	if resp.StatusCode/100 == 2 {
		c.observeKey(false, time.Time{})
		return c.accepted(ctx, r, resp, b)
	}
	defer resp.Body.Close()
	if r.method == http.MethodHead && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		return c.explain(ctx, r, resp)
	}
	e = answerError(r.op, r.path, resp)
	e.retryAfter = retryAfter(resp)
	if e.Status >= 500 && mayApply && !refusedEarly(e) {
		r.applied = true
		e.unknown = !r.cond.None()
	}
	return e
}

// roundTrip sends a request when a slot is free. The slot is given back once the
// answer has begun, so that an open reader never blocks another request.
func (c *Client) roundTrip(req *http.Request, direct bool) (*http.Response, error) {
	if !direct {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	return c.transport.RoundTrip(req)
}

// lost makes the error of a request without an answer.
func (c *Client) lost(ctx context.Context, r *request, e *Error, b body, err error, mayApply bool) *Error {
	e.cause = err
	if ctx.Err() != nil {
		e.cause = ended(ctx)
	} else {
		e.kind = ErrUnavailable
	}
	if b != nil && b.fault() != nil { // the reason we broke it off
		e.kind, e.cause = ErrSource, b.fault()
	}
	if mayApply {
		r.applied = true
		e.unknown = !r.cond.None()
	}
	e.unsent = !mayApply
	return e
}

// accepted lets the operation judge a 2xx answer.
func (c *Client) accepted(ctx context.Context, r *request, resp *http.Response, b body) *Error {
	if b != nil && !b.finished() {
		resp.Body.Close()
		e := &Error{Op: r.op, Path: r.path, Status: resp.StatusCode, kind: ErrUnavailable,
			cause: fmt.Errorf("answered %d before the content was sent", resp.StatusCode)}
		if b.fault() != nil {
			e.kind, e.cause = ErrSource, b.fault()
		}
		return e
	}
	if r.handle != nil {
		return r.handle(resp, b)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody)) // so that the connection can be kept
	return nil
}

// build makes the HTTP request of one attempt: signed anew, since a signature is
// good for five minutes only.
func (c *Client) build(ctx context.Context, r *request, b body, written *atomic.Bool) (*http.Request, error) {
	u := *c.url
	u.Path = c.url.Path + r.path
	u.RawPath = escape(c.url.Path, true) + escape(r.path, true)
	u.RawQuery = r.query
	h := make(http.Header, 12)
	for k, v := range r.header {
		h[k] = v
	}
	h.Set("Accept", r.accept)
	h.Set("Accept-Version", "~1.0")
	h.Set("User-Agent", c.cfg.UserAgent)
	h.Set("X-Request-Id", uuid.NewString())
	if c.role != "" {
		h.Set("Role", c.role)
	}
	r.cond.header(h)
	date := time.Now().UTC().Format(http.TimeFormat)
	h.Set("Date", date)
	if c.cfg.Signer != nil {
		auth, err := c.cfg.Signer.Sign(date, true)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", auth)
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }})
	req := (&http.Request{
		Method: r.method, URL: &u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	switch {
	case b != nil && r.size > 0:
		req.Body, req.ContentLength = b, r.size
		if small, ok := b.(*smallBody); ok {
			req.GetBody = small.again
		}
		if r.expect {
			h.Set("Expect", "100-continue")
		}
	case r.method == http.MethodPut:
		req.Body = http.NoBody // sends Content-Length: 0
	}
	return req, nil
}

// explain learns the code of a refused HEAD, which has no body, by asking again
// with GET: whether the key is unknown or the access denied makes a difference.
func (c *Client) explain(ctx context.Context, r *request, head *http.Response) *Error {
	e := answerError(r.op, r.path, head)
	get := &request{op: r.op, method: http.MethodGet, path: r.path, query: "limit=1", accept: "*/*", header: http.Header{"Range": {"bytes=0-0"}}}
	req, err := c.build(ctx, get, nil, new(atomic.Bool))
	if err != nil {
		return e
	}
	resp, err := c.roundTrip(req, r.direct)
	if err != nil {
		return e
	}
	defer resp.Body.Close()
	if resp.StatusCode == e.Status {
		return answerError(r.op, r.path, resp)
	}
	if resp.StatusCode/100 == 2 { // the key has just become known
		e.flap = true
	}
	return e
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

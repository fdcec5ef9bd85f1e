package rest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// errorBodyWait bounds the wait for the body of an error: IMGAPI announces the
// full length of a file it cannot open and then sends nothing for seconds.
const errorBodyWait = 2 * time.Second

// Request is one call. Everything but Path is optional.
type Request struct {
	Method string // "" is GET
	Path   string // escaped, below the base URL, as [Path] makes it
	Query  url.Values
	Header http.Header
	Body   any  // sent as JSON; nil sends no body
	Once   bool // no second attempt even though the method allows it
	// WantJSON makes Stream refuse an answer of another content type. JSON does so
	// whenever it has something to decode into.
	WantJSON bool
}

// Response is what came with an answer besides its body.
type Response struct {
	Status    int
	Header    http.Header
	RequestID string // as sent
	TLS       *tls.ConnectionState
}

// Stream is an answer whose body is read as it comes. A pause of the client's
// stall time ends it with [ErrStalled]. Close it.
type Stream struct {
	Response
	Length int64 // from Content-Length; -1 when the server named none
	Body   io.ReadCloser
}

// JSON makes one call and decodes the answer into out. With a nil out the body
// is read and dropped, whatever it is.
//
// Errors are [*Error]; see there for what errors.Is tells.
func (c *Client) JSON(ctx context.Context, req Request, out any) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req.WantJSON = out != nil
	call, err := c.newCall(req)
	if err != nil {
		return nil, err
	}
	var res *Response
	err = c.attempts(ctx, call, func(ctx context.Context) error {
		resp, err := c.send(ctx, call)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		res = call.response(resp)
		return call.decode(resp, c.cfg.MaxBody, out)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Stream makes one call and returns as soon as the headers have come. Further
// attempts are made only until then.
func (c *Client) Stream(ctx context.Context, req Request) (*Stream, error) {
	call, err := c.newCall(req)
	if err != nil {
		return nil, err
	}
	var s *Stream
	err = c.attempts(ctx, call, func(ctx context.Context) error {
		g := newGuard(ctx, c.cfg.Stall)
		resp, err := c.send(g.ctx, call)
		g.disarm()
		if err != nil {
			g.cancel(nil)
			return g.explain(err)
		}
		s = &Stream{Response: *call.response(resp), Length: resp.ContentLength, Body: &guarded{rc: resp.Body, g: g}}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// decode reads a JSON answer into out.
func (k *call) decode(resp *http.Response, limit int64, out any) error {
	body, err := readBounded(resp.Body, limit)
	if err != nil {
		e := k.fail(resp, fmt.Errorf("%w: body: %w", ErrUnavailable, err))
		if e.passing = !errors.Is(err, ErrTooLarge); !e.passing {
			e.Err = err
		}
		return e
	}
	if out == nil {
		return nil
	}
	if len(body) == 0 {
		return k.fail(resp, fmt.Errorf("%w: it is empty", ErrNotJSON))
	}
	if err := json.Unmarshal(body, out); err != nil {
		return k.fail(resp, fmt.Errorf("%w: %s", ErrNotJSON, Clean(err.Error())))
	}
	return nil
}

// send makes one attempt and returns a good answer with its body unread. An
// error status is read and becomes an [*Error].
func (c *Client) send(ctx context.Context, k *call) (*http.Response, error) {
	req, sent, err := k.request(ctx)
	if err != nil {
		return nil, err
	}
	if c.cfg.Sign != nil {
		if err := c.cfg.Sign(req); err != nil {
			return nil, k.fail(nil, fmt.Errorf("sign: %w", err))
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, k.lost(ctx, err, sent.Load())
	}
	if resp.StatusCode >= 300 {
		return nil, k.refused(resp)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		resp.Body.Close()
		return nil, k.fail(resp, fmt.Errorf("%w: it is encoded as %s, which was not asked for", ErrNotJSON, Clean(enc)))
	}
	if k.wantJSON && !isJSON(resp.Header.Get("Content-Type")) {
		resp.Body.Close()
		return nil, k.fail(resp, fmt.Errorf("%w: it is %s", ErrNotJSON, kind(resp.Header.Get("Content-Type"))))
	}
	return resp, nil
}

// refused turns an error status into an [*Error] with what its body says, as
// far as it comes.
func (k *call) refused(resp *http.Response) error {
	e := k.fail(resp, nil)
	e.retryAfter = retryAfter(resp.Header.Get("Retry-After"))
	if k.changes && (e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout) {
		e.Err = fmt.Errorf("%w: the front end lost the server behind it", ErrUnknownOutcome)
	}
	contentType := resp.Header.Get("Content-Type")
	if strings.HasPrefix(contentType, "application/octet-stream") {
		resp.Body.Close() // an announced file, not an explanation
		return e
	}
	stop := time.AfterFunc(errorBodyWait, func() { resp.Body.Close() })
	defer stop.Stop()
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // a cut body explains less, no more
	e.decode(contentType, body)
	return e
}

// Package imgapi is a client of an image server, standalone or of a data
// center: its read calls, and the two calls that poke a running server.
//
// Facts of the service it is built on, observed on IMGAPI 4.13.1:
//
//   - HEAD is 405 on every route, so it is never sent.
//   - Writes and pokes want HTTP Signature over the date with an RSA key, key id
//     the bare user name, no space after the commas ([Signer]).
//   - A list is a plain JSON array without total, marker or page links; it is
//     decoded as it arrives, one image in memory at a time.
//   - A file that the server cannot open is a 500 with the full Content-Length
//     and no body; one that is too short stalls before it is cut. Length and
//     Content-MD5 are checked before io.EOF is given.
//   - Some well-formed requests end the server process: a request id that is no
//     UUID on an upload, two sort parameters, billing_tag, a public that is not a
//     boolean, the jobs of an image, key ids named like members of a JavaScript
//     object. None of them can be expressed here.
package imgapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/rest"
)

// Config says how to reach one image server. Only URL is required.
type Config struct {
	URL       string
	TLS       rest.TLS
	Retry     rest.Retry
	Timeout   time.Duration // of one call that is no stream
	Stall     time.Duration // longest pause within a stream
	UserAgent string
	Signer    Signer       // needed for ReloadAuthKeys and DropCaches; others are signed when it is set
	Notify    func(string) // told of every further attempt
	// MaxImage is the largest image accepted in a list, in bytes of JSON; 0 means
	// 4 MiB.
	MaxImage int64
}

// defaultMaxImage is far above any manifest: a few KB, plus an acl of some
// hundred accounts.
const defaultMaxImage = 4 << 20

// Client talks to one image server. It is safe for concurrent use.
type Client struct {
	rest     *rest.Client
	signed   bool
	maxImage int64
}

// New checks cfg and returns a client. It contacts nothing.
func New(cfg Config) (*Client, error) {
	rc := rest.Config{
		BaseURL: cfg.URL, TLS: cfg.TLS, Retry: cfg.Retry, Timeout: cfg.Timeout,
		Stall: cfg.Stall, UserAgent: cfg.UserAgent, Notify: cfg.Notify,
		Header: http.Header{"Accept-Version": {"~2"}}, // 2 is 1 with channels shown
	}
	if cfg.Signer != nil {
		rc.Sign = func(r *http.Request) error { return sign(r, cfg.Signer, time.Now()) }
	}
	c, err := rest.New(rc)
	if err != nil {
		return nil, fail.As(fail.Usage, fmt.Errorf("image server: %w", err))
	}
	if cfg.MaxImage <= 0 {
		cfg.MaxImage = defaultMaxImage
	}
	return &Client{rest: c, signed: cfg.Signer != nil, maxImage: cfg.MaxImage}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.rest.Close() }

// URL is the base URL, for messages.
func (c *Client) URL() string { return c.rest.URL() }

// Pong is the answer to a ping.
type Pong struct {
	Ping    string `json:"ping"` // "pong"
	Version string `json:"version"`
	IMGAPI  bool   `json:"imgapi"`
	PID     int    `json:"pid"`   // signed pings only
	User    string `json:"user"`  // signed pings only: whom the server took us for
	State   string `json:"state"` // of an instance with an agent in front; "" without
	Reason  string `json:"reason"`

	Server     string `json:"-"` // Server header: name and version
	ServerName string `json:"-"` // x-server-name header: the host or zone
	RequestID  string `json:"-"`
}

// Ping asks the server whether it is there. A client with a signer signs it, and
// learns PID and User; a bad signature is an error even here.
func (c *Client) Ping(ctx context.Context) (*Pong, error) {
	var p Pong
	res, err := c.rest.JSON(ctx, rest.Request{Path: "/ping"}, &p)
	if err != nil {
		return nil, classify(err)
	}
	p.Server, p.ServerName, p.RequestID = rest.Clean(res.Header.Get("Server")), rest.Clean(res.Header.Get("X-Server-Name")), res.RequestID
	p.State, p.Version = rest.Clean(p.State), rest.Clean(p.Version)
	if p.Ping != "pong" || !p.IMGAPI {
		return nil, fmt.Errorf("GET %s/ping: answered, but not as an image server", c.URL())
	}
	return &p, nil
}

// Channel is one entry of a server's channels.
type Channel struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Default     bool   `json:"default"`
}

// Channels lists the channels of the server. One without channels answers
// [rest.ErrNotFound].
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	var list []Channel
	_, err := c.rest.JSON(ctx, rest.Request{Path: "/channels"}, &list)
	return list, classify(err)
}

// ReloadAuthKeys makes the running server read its keys again. It answers
// before it has, and says 200 even when that fails: success here means asked.
func (c *Client) ReloadAuthKeys(ctx context.Context) error {
	return c.poke(ctx, rest.Request{Method: http.MethodPost, Path: "/authkeys/reload"})
}

// DropCaches clears the server's response caches. Manifests are not read again.
func (c *Client) DropCaches(ctx context.Context) error {
	return c.poke(ctx, rest.Request{Method: http.MethodPost, Path: "/state", Query: map[string][]string{"action": {"dropcaches"}}})
}

func (c *Client) poke(ctx context.Context, req rest.Request) error {
	if !c.signed {
		return fail.New(fail.Usage, "POST %s%s: needs a key: the server takes it signed only", c.URL(), req.Path)
	}
	_, err := c.rest.JSON(ctx, req, nil)
	return classify(err)
}

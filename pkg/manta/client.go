package manta

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/joyent/triton-go/authentication"
)

// Client talks to one service as one account. Make it with New, share it freely,
// Close it at the end.
type Client struct {
	cfg       Config
	url       *url.URL
	role      string
	transport *http.Transport
	slots     chan struct{} // one per request under way
	dirs      *dirCache

	clockMu sync.Mutex
	clock   time.Time // the service's, from the last answer
	clockAt time.Time // when that was, by the local monotonic clock

	graceMu sync.Mutex
	refused time.Time // first of an unbroken row of refusals of the key; zero if none
}

// New returns a client. Nothing is sent until the first operation.
func New(cfg Config) (*Client, error) {
	cfg, u, err := cfg.defaults()
	if err != nil {
		return nil, err
	}
	t, err := newTransport(cfg, u)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, url: u, role: strings.Join(cfg.Roles, ","), transport: t, dirs: newDirCache()}
	c.slots = make(chan struct{}, cfg.Parallel)
	return c, nil
}

// Close closes idle connections. Operations under way are not disturbed.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// URL returns the service's address.
func (c *Client) URL() string { return c.url.String() }

// Account returns the login whose area "~~" means.
func (c *Client) Account() string { return c.cfg.Account }

// Signer returns the signer the client was made with, for messages about its key;
// nil if it signs nothing.
func (c *Client) Signer() authentication.Signer { return c.cfg.Signer }

// ServerTime returns the service's clock: the Date of the last answer, advanced by
// the local monotonic clock, good to a second or so. It is false before the first
// answer.
func (c *Client) ServerTime() (time.Time, bool) {
	c.clockMu.Lock()
	defer c.clockMu.Unlock()
	if c.clock.IsZero() {
		return time.Time{}, false
	}
	return c.clock.Add(time.Since(c.clockAt)), true
}

func (c *Client) observeClock(resp *http.Response) {
	t, err := parseDate(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	c.clockMu.Lock()
	defer c.clockMu.Unlock()
	c.clock, c.clockAt = t, time.Now()
}

// parseDate reads an HTTP date, UTC.
func parseDate(s string) (time.Time, error) {
	t, err := http.ParseTime(s)
	return t.UTC(), err
}

// maxGraceRounds bounds how long one operation waits for a key that is refused
// and accepted in turns, in multiples of AuthGrace.
const maxGraceRounds = 4

// observeKey keeps the record of how long the key has been refused and says, for
// a refusal, whether it is stable enough to be believed.
func (c *Client) observeKey(refusedNow bool, opStart time.Time) (final bool) {
	c.graceMu.Lock()
	defer c.graceMu.Unlock()
	if !refusedNow {
		c.refused = time.Time{}
		return false
	}
	now := time.Now()
	if c.refused.IsZero() {
		c.refused = now
	}
	return now.Sub(c.refused) >= c.cfg.AuthGrace || now.Sub(opStart) >= maxGraceRounds*c.cfg.AuthGrace
}

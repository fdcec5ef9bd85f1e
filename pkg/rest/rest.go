// Package rest is the one HTTP client for the JSON services of a data center.
//
// What it promises of every call:
//
//   - a request id (UUID) is sent, the same for all attempts of one call;
//   - nothing is waited for without bound: connecting, headers, the whole call
//     for [Client.JSON], and each pause between bytes for [Client.Stream];
//   - no answer is read without bound, and none is decompressed: services do not
//     compress, and a small body that grows is an attack;
//   - an answer that is not JSON where JSON was due is an error, not a parse error;
//   - an error status becomes an [*Error] with the service's own code and message,
//     stripped of control characters;
//   - a redirect to another host, or from https to http, is refused;
//   - only idempotent requests are tried again, on lost connections, 429, 502,
//     503 and 504, with growing pauses; a lost answer to any other is
//     [ErrUnknownOutcome].
//
// It speaks HTTP/1.1 only, as the services do, and knows no proxy.
package rest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The defaults of a zero [Config].
const (
	DefaultTimeout = 30 * time.Second
	DefaultConnect = 5 * time.Second
	DefaultStall   = 10 * time.Second
	DefaultMaxBody = 16 << 20
)

// Config says how to reach one service. Only BaseURL is required.
type Config struct {
	// BaseURL is http or https, host, optional port and path prefix. User and
	// password in it are refused.
	BaseURL string
	TLS     TLS
	Retry   Retry
	Timeout time.Duration // for one JSON call with all its attempts
	Connect time.Duration // for TCP connect, and again for the TLS handshake
	Stall   time.Duration // longest pause between bytes of a stream, or before its headers
	MaxBody int64         // bytes of a JSON answer
	// Header is sent with every request, for example Accept-Version.
	Header    http.Header
	UserAgent string
	// Sign, when set, is called for every attempt, last, when all other headers
	// are in place.
	Sign func(*http.Request) error
	// Notify, when set, is told before each further attempt, in one line.
	Notify func(string)
}

// TLS says whom to believe. The zero value is the system's roots.
type TLS struct {
	Insecure    bool           // believe anyone: only with the operator's consent
	RootCAs     *x509.CertPool // instead of the system's
	Fingerprint string         // SHA-256 of the server's certificate in hex, colons or not: believe this one only
	ServerName  string         // instead of the host in the URL
}

// Retry bounds the attempts of idempotent calls.
type Retry struct {
	Attempts int           // in all; 0 means 3, 1 means no second one
	Base     time.Duration // first pause, doubled each time; 0 means 200ms
	Max      time.Duration // longest pause, also against Retry-After; 0 means 5s
}

// Client talks to one service. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

// New checks cfg and returns a client. It contacts nothing.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	tlsConf, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	cfg.defaults()
	dialer := &net.Dialer{Timeout: cfg.Connect, KeepAlive: 30 * time.Second}
	c := &Client{cfg: cfg, base: base}
	c.http = &http.Client{
		CheckRedirect: sameHost,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        tlsConf,
			TLSHandshakeTimeout:    cfg.Connect,
			TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    8,
			// The services close idle connections after 5 s; being first avoids
			// most resets of a request just sent.
			IdleConnTimeout: 4 * time.Second,
		},
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is the base URL, for messages.
func (c *Client) URL() string { return c.base.String() }

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Timeout, DefaultTimeout)
	set(&c.Connect, DefaultConnect)
	set(&c.Stall, DefaultStall)
	set(&c.Retry.Base, 200*time.Millisecond)
	set(&c.Retry.Max, 5*time.Second)
	if c.Retry.Attempts <= 0 {
		c.Retry.Attempts = 3
	}
	if c.MaxBody <= 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.UserAgent == "" {
		c.UserAgent = "tritonops"
	}
}

func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The text of url.Error repeats the input, which may hold a password.
		return nil, errors.New("service URL: not a URL")
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("service URL for %s: a user or password in a URL is not taken", u.Host)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("service URL %q: need http://HOST or https://HOST", Clean(raw))
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("service URL %q: has a query or fragment", Clean(raw))
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// sameHost is the redirect policy. Authorization and request id must not reach
// a host the operator did not name, nor a wire without encryption.
func sameHost(req *http.Request, via []*http.Request) error {
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead {
		return http.ErrUseLastResponse // a POST must not turn into a GET elsewhere
	}
	first := via[0].URL
	switch {
	case len(via) > 4:
		return &redirectError{"more than 4 redirects"}
	case req.URL.Host != first.Host:
		return &redirectError{"redirected to another host, " + Clean(req.URL.Host)}
	case req.URL.Scheme != first.Scheme:
		return &redirectError{"redirected from " + first.Scheme + " to " + Clean(req.URL.Scheme)}
	}
	return nil
}

// config makes the crypto/tls form.
func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.RootCAs, ServerName: t.ServerName}
	if t.Insecure {
		conf.InsecureSkipVerify = true
	}
	if t.Fingerprint == "" {
		return conf, nil
	}
	want, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(t.Fingerprint), "sha256:"), ":", ""))
	if err != nil || len(want) != sha256.Size {
		return nil, fmt.Errorf("certificate fingerprint %q: not a SHA-256 in hex", Clean(t.Fingerprint))
	}
	// The pin replaces the chain: self-signed certificates named "*" are what
	// these services come with.
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("server sent no certificate")
		}
		if got := sha256.Sum256(cs.PeerCertificates[0].Raw); [sha256.Size]byte(want) != got {
			return fmt.Errorf("%w: its SHA-256 is %s, expected %s", errPin, Fingerprint(got[:]), Fingerprint(want))
		}
		return nil
	}
	return conf, nil
}

// Fingerprint writes a digest the way openssl does: upper-case hex with colons.
func Fingerprint(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// Path joins segments to an escaped path: Path("images", id) is "/images/<id>".
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// Clean makes a string from outside fit for a message: control and format
// characters become "?", and it is cut at 300 runes.
func Clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > 300 {
			b.WriteString("...")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			r = ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xfffd, r >= 0x200b && r <= 0x200f,
			r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// sleep waits for d or the end of ctx, whichever comes first.
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

package manta

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	ioBuffer = 128 << 10 // per connection and direction
	// continueWait is how long a body waits for 100 Continue. A server that does not
	// know Expect costs this once per upload; a busy one may need seconds.
	continueWait = 15 * time.Second
	dialTimeout  = 30 * time.Second
)

// newTransport builds the HTTP/1.1 transport: HTTP/2 halves the throughput of
// large bodies here, and the service does not speak it.
func newTransport(cfg Config, base *url.URL) (*http.Transport, error) {
	conf, err := tlsConfig(cfg, base)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	// A connection may be silent while the service works on an answer, so the stall
	// limit lies a little behind the answer's own.
	stall := cfg.HeaderTimeout + cfg.HeaderTimeout/8
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &stallConn{Conn: c, limit: stall}, nil
	}
	t := &http.Transport{
		Proxy: cfg.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &bulkConn{Conn: c}, nil
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return dialTLS(ctx, c, conf)
		},
		TLSClientConfig:        conf, // through a proxy
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    cfg.Parallel,
		IdleConnTimeout:        55 * time.Second,
		ResponseHeaderTimeout:  cfg.HeaderTimeout,
		ExpectContinueTimeout:  continueWait,
		DisableCompression:     true, // MD5 and length are those of the stored bytes
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        ioBuffer,
		ReadBufferSize:         ioBuffer,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t, nil
}

// dialTLS makes a TLS client connection whose records leave in large writes.
func dialTLS(ctx context.Context, c net.Conn, conf *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw := &batchConn{Conn: c}
	tc := tls.Client(raw, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return &bulkConn{Conn: tc, batch: raw}, nil
}

// tlsConfig returns how the server is to be known: by its name and an authority,
// by the fingerprint of its certificate, or not at all.
func tlsConfig(cfg Config, base *url.URL) (*tls.Config, error) {
	conf := &tls.Config{
		ServerName:                  base.Hostname(),
		RootCAs:                     cfg.RootCAs,
		InsecureSkipVerify:          cfg.Insecure,
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true, // bulk transfers, not first bytes
		ClientSessionCache:          tls.NewLRUClientSessionCache(64),
	}
	if cfg.Fingerprint == "" {
		return conf, nil
	}
	s := cfg.Fingerprint
	if len(s) > 7 && strings.EqualFold(s[:7], "sha256:") {
		s = s[7:]
	}
	want, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(want) != sha256.Size {
		return nil, fmt.Errorf("manta: certificate fingerprint %q: not the hex of a SHA-256", cfg.Fingerprint)
	}
	conf.InsecureSkipVerify = true // the pin replaces name and authority
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("server shows no certificate")
		}
		got := sha256.Sum256(state.PeerCertificates[0].Raw)
		if string(got[:]) != string(want) {
			return &fingerprintError{got: got[:], want: want}
		}
		return nil
	}
	return conf, nil
}

// fingerprintError is a server with another certificate than the pinned one.
type fingerprintError struct{ got, want []byte }

func (e *fingerprintError) Error() string {
	return fmt.Sprintf("certificate fingerprint is %x, expected %x", e.got, e.want)
}

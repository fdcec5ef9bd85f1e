package manta

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/joyent/triton-go/authentication"
)

// Config describes a service and who asks. Zero values are the defaults named.
type Config struct {
	URL     string   // https://host[:port]; http is accepted for a laboratory
	Account string   // login whose area "~~" means
	SubUser string   // login of the sub-user who asks; must be the one a *Signer was made for
	Roles   []string // sent as the role header
	// Signer signs every request; nil sends none signed, which reaches public
	// objects only. See NewSigner.
	Signer authentication.Signer

	Insecure    bool           // accept any certificate
	RootCAs     *x509.CertPool // instead of the system's
	Fingerprint string         // SHA-256 of the server's certificate in hex: it and no other is accepted, whoever issued it
	// Proxy chooses a proxy for a request; nil uses none, whatever the environment
	// says. http.ProxyURL and http.ProxyFromEnvironment fit.
	Proxy func(*http.Request) (*url.URL, error)

	Parallel  int    // requests under way at once, and connections kept; 32
	UserAgent string // "tritonops"
	Retry     Retry
	// HeaderTimeout is how long an answer may take once the request is sent, and how
	// long a transfer may move nothing; 60 s.
	HeaderTimeout time.Duration
	// AuthGrace is how long a 403 about the key must be stable before it is believed.
	// A new key takes minutes to be known everywhere and flaps meanwhile; 30 s is a
	// sound value. 0 believes the first.
	AuthGrace time.Duration
	// Notify is told why a request is repeated and when. It may be called from
	// several goroutines.
	Notify func(string)
}

// Retry bounds how unconditional requests are repeated.
type Retry struct {
	Attempts int           // in all, the first included; 5
	Base     time.Duration // wait before the second, doubled each time, with jitter; 200 ms
	Max      time.Duration // longest wait; 10 s
}

// maxRetryAfter is the longest Retry-After that is waited for.
const maxRetryAfter = 2 * time.Minute

// defaults returns the configuration with the defaults filled in, checked.
func (cfg Config) defaults() (Config, *url.URL, error) {
	u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil {
		return cfg, nil, errors.New("manta URL: not a URL") // err would repeat it, password included
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return cfg, nil, fmt.Errorf("manta URL %q: want https://host[:port]", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return cfg, nil, fmt.Errorf("manta URL %q: user, query or fragment make no sense there", u.Redacted())
	}
	if err := checkLogin("account", cfg.Account); err != nil {
		return cfg, nil, fmt.Errorf("manta: %w", err)
	}
	for _, r := range cfg.Roles {
		if r == "" || strings.ContainsAny(r, ",\r\n") {
			return cfg, nil, fmt.Errorf("manta: role %q: not a role name", r)
		}
	}
	if s, ok := cfg.Signer.(*Signer); ok && s.user != cfg.SubUser {
		return cfg, nil, fmt.Errorf("manta: sub-user is %q, but the signer is made for %q", cfg.SubUser, s.user)
	}
	setDefault(&cfg.Parallel, 32)
	setDefault(&cfg.UserAgent, "tritonops")
	setDefault(&cfg.Retry.Attempts, 5)
	setDefault(&cfg.Retry.Base, 200*time.Millisecond)
	setDefault(&cfg.Retry.Max, 10*time.Second)
	setDefault(&cfg.HeaderTimeout, time.Minute)
	if cfg.Parallel < 0 || cfg.Retry.Attempts < 0 || cfg.Retry.Base < 0 || cfg.Retry.Max < 0 || cfg.HeaderTimeout < 0 || cfg.AuthGrace < 0 {
		return cfg, nil, errors.New("manta: a negative limit or time makes no sense")
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string) {}
	}
	return cfg, u, nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

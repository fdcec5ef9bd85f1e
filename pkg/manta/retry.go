package manta

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// again decides whether an attempt that failed is repeated, and after what wait.
func (c *Client) again(ctx context.Context, r *request, e *Error) (time.Duration, bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	if e.keyUnknown() {
		// A refusal proves that nothing was applied, so conditions do not matter.
		r.refusals++
		if c.cfg.AuthGrace == 0 || c.observeKey(true, r.start) {
			return 0, false
		}
		return backoff(Retry{Base: c.cfg.AuthGrace / 60, Max: c.cfg.AuthGrace / 10}, r.refusals), true
	}
	if e.Status >= 400 && e.Status < 500 && e.Status != http.StatusUnauthorized {
		c.observeKey(false, r.start) // whatever else is wrong, the key was accepted
	}
	r.failures++
	if !r.cond.None() && !e.unsent {
		return 0, false // it may have been applied, or the caller is to know at once
	}
	if r.failures >= c.cfg.Retry.Attempts || !transient(e) || e.retryAfter > maxRetryAfter {
		return 0, false
	}
	return max(backoff(c.cfg.Retry, r.failures), e.retryAfter), true
}

// transient says whether the same request may succeed later.
func transient(e *Error) bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	if e.Status >= 300 || e.kind == ErrSource {
		return false
	}
	return e.kind == ErrChecksum || e.kind == ErrUnavailable && !permanent(e.cause)
}

// permanent says whether a connection error will not go away by itself: the
// server is not who it should be, or its name does not exist.
func permanent(err error) bool {
	var cert *tls.CertificateVerificationError
	var pin *fingerprintError
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var name *net.DNSError
	return errors.As(err, &cert) || errors.As(err, &pin) || errors.As(err, &record) || errors.As(err, &unknown) ||
		errors.As(err, &name) && name.IsNotFound
}

// refusedEarly says whether a 5xx proves that nothing was applied: the service
// throttles before it looks at a request, and picks storage before it takes the
// content.
func refusedEarly(e *Error) bool {
	return e.Status == http.StatusServiceUnavailable && e.hasCode("Throttled") ||
		e.Status == http.StatusInsufficientStorage && e.hasCode("NotEnoughSpace")
}

// backoff returns the wait before attempt try+1: doubled each time, with a jitter
// of half of it so that clients thrown out together do not return together.
func backoff(r Retry, try int) time.Duration {
	d := r.Base
	for i := 1; i < try && d < r.Max; i++ {
		d *= 2
	}
	d = min(d, r.Max)
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// retryAfter reads the Retry-After header, seconds or a date.
func retryAfter(resp *http.Response) time.Duration {
	v := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	from := time.Now()
	if now, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		from = now // both by the same clock
	}
	return max(0, at.Sub(from))
}

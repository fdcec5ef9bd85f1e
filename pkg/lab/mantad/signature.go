package mantad

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// signature is a parsed Authorization header of scheme Signature.
type signature struct {
	keyID, algorithm, signature string
	headers                     []string // lower case
	params                      map[string]string
}

var errParam = errors.New("bad param format")

// parseSignature reads `Signature name="value",name=123,...` exactly as the
// service's library does: no space between parameters, no escapes in values.
func parseSignature(s string) (signature, error) {
	scheme, rest, _ := strings.Cut(s, " ")
	params, err := parseParams(rest)
	if err != nil {
		return signature{}, err
	}
	sig := signature{params: params, keyID: params["keyId"], algorithm: params["algorithm"], signature: params["signature"]}
	switch {
	case scheme != "Signature":
		return signature{}, errors.New(`scheme was not "Signature"`)
	case sig.keyID == "":
		return signature{}, errors.New("keyId was not specified")
	case sig.algorithm == "":
		return signature{}, errors.New("algorithm was not specified")
	case sig.signature == "":
		return signature{}, errors.New("signature was not specified")
	}
	if !knownAlgorithm(sig.algorithm) {
		return signature{}, fmt.Errorf("%s is not supported", sig.algorithm)
	}
	if h := params["headers"]; h != "" {
		for _, name := range strings.Split(h, " ") {
			sig.headers = append(sig.headers, strings.ToLower(name))
		}
	}
	return sig, nil
}

// parseParams reads name="value" pairs and bare numbers. A value left open is
// dropped, as the library drops it.
func parseParams(s string) (map[string]string, error) {
	params := map[string]string{}
	for s != "" {
		i := strings.IndexByte(s, '=')
		name := s
		if i >= 0 {
			name = s[:i]
		}
		if strings.ContainsFunc(name, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') }) || i == 0 {
			return nil, errParam
		}
		if i < 0 {
			return params, nil // a name without a value at the end
		}
		s = s[i+1:]
		if s == "" {
			return params, nil
		}
		value, tail, err := paramValue(s)
		if err != nil {
			return nil, err
		}
		if tail == nil {
			return params, nil
		}
		params[name] = value
		s = *tail
	}
	return params, nil
}

// paramValue reads one value and the comma after it. A nil tail is an unfinished
// value at the end.
func paramValue(s string) (string, *string, error) {
	if s[0] == '"' {
		end := strings.IndexByte(s[1:], '"')
		if end < 0 {
			return "", nil, nil
		}
		value, tail := s[1:1+end], s[end+2:]
		if tail != "" {
			if tail[0] != ',' {
				return "", nil, errParam
			}
			tail = tail[1:]
		}
		return value, &tail, nil
	}
	value, tail, ok := strings.Cut(s, ",")
	if strings.ContainsFunc(value, func(c rune) bool { return c < '0' || c > '9' }) || value == "" {
		return "", nil, errParam
	}
	if !ok {
		return "", nil, nil // the library keeps a number only at its comma
	}
	return value, &tail, nil
}

// knownAlgorithm is the library's list; the service's own is shorter.
func knownAlgorithm(a string) bool {
	kind, hash, ok := strings.Cut(strings.ToLower(a), "-")
	if !ok {
		return false
	}
	switch kind {
	case "rsa", "dsa", "ecdsa", "ed25519", "hmac":
	default:
		return false
	}
	return hash == "sha1" || hash == "sha256" || hash == "sha512"
}

// names returns the signed headers; x-date or date when none are named.
func (s signature) names(h http.Header) []string {
	if len(s.headers) > 0 {
		return s.headers
	}
	if h.Get("X-Date") != "" {
		return []string{"x-date"}
	}
	return []string{"date"}
}

// check looks at everything but the signature itself: that the signed headers
// are there, that the date is among them, and the clock.
func (s signature) check(c *call, now time.Time) error {
	dated := false
	names := s.names(c.r.Header)
	for _, name := range names {
		if strings.HasPrefix(name, "(") || name == "request-line" {
			if name == "(opaque)" && s.params["opaque"] == "" {
				return errors.New("opaque param was not in the authorization header")
			}
			continue
		}
		dated = dated || name == "date" || name == "x-date"
		if _, ok := headerValue(c.r, name); !ok {
			return fmt.Errorf("%s was not in the request", name)
		}
	}
	v := c.r.Header.Get("X-Date")
	if v == "" {
		v = c.r.Header.Get("Date")
	}
	if v != "" {
		t, ok := parseDate(v)
		if !ok {
			return fmt.Errorf("date %q is invalid", v)
		}
		if skew := now.Sub(t).Abs(); skew > maxSkew {
			return fmt.Errorf("clock skew of %ss was greater than 300s", strconv.FormatFloat(skew.Seconds(), 'f', -1, 64))
		}
	}
	if !dated {
		want := "date"
		if c.r.Header.Get("X-Date") != "" {
			want = "x-date"
		}
		return fmt.Errorf("%s was not a signed header", want)
	}
	return nil
}

// signingString builds the text that was signed.
func (s signature) signingString(c *call) string {
	var b strings.Builder
	for i, name := range s.names(c.r.Header) {
		if i > 0 {
			b.WriteByte('\n')
		}
		switch name {
		case "request-line":
			b.WriteString(c.r.Method + " " + c.target + " " + c.r.Proto)
		case "(request-target)":
			b.WriteString(name + ": " + strings.ToLower(c.r.Method) + " " + c.target)
		case "(keyid)":
			b.WriteString(name + ": " + s.keyID)
		case "(algorithm)":
			b.WriteString(name + ": " + s.algorithm)
		case "(opaque)", "(created)", "(expires)":
			b.WriteString(name + ": " + s.params[strings.Trim(name, "()")])
		default:
			v, _ := headerValue(c.r, name)
			b.WriteString(name + ": " + v)
		}
	}
	return b.String()
}

// headerValue returns a request header as it was sent, repeats joined.
func headerValue(r *http.Request, name string) (string, bool) {
	if name == "host" {
		return r.Host, r.Host != ""
	}
	v, ok := r.Header[http.CanonicalHeaderKey(name)]
	return strings.Join(v, ", "), ok
}

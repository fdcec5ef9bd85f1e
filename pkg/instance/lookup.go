package instance

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Redacted stands where a secret was.
const Redacted = "(redacted)"

// Lookup finds a value by its dotted name ("manta.url", "storageTypes.0"). A key
// that itself has dots is found too. The error names what is there instead.
func Lookup(v any, name string) (any, error) {
	if found, ok := lookup(v, name); ok {
		return found, nil
	}
	at := ""
	for rest := name; ; {
		first, more, _ := strings.Cut(rest, ".")
		next, ok := child(v, first)
		if !ok {
			return nil, noSuchKey(v, at, dotted(at, first))
		}
		v, at, rest = next, dotted(at, first), more
	}
}

// lookup tries the longest key that begins the name first.
func lookup(v any, name string) (any, bool) {
	for end := len(name); end >= 0; end = strings.LastIndexByte(name[:end], '.') {
		c, ok := child(v, name[:end])
		if ok && end == len(name) {
			return c, true
		}
		if ok {
			if found, ok := lookup(c, name[end+1:]); ok {
				return found, true
			}
		}
	}
	return nil, false
}

func child(v any, key string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		c, ok := v[key]
		return c, ok
	case []any:
		if n, err := strconv.Atoi(key); err == nil && n >= 0 && n < len(v) {
			return v[n], true
		}
	}
	return nil, false
}

func noSuchKey(v any, in, name string) error {
	err := fail.New(fail.Failed, "%s: no such key", name)
	switch v := v.(type) {
	case map[string]any:
		where := "the configuration has"
		if in != "" {
			where = in + " has"
		}
		return fail.Hint(err, "%s: %s", where, strings.Join(slices.Sorted(maps.Keys(v)), ", "))
	case []any:
		return fail.Hint(err, "%s is an array of %d, counted from 0", in, len(v))
	}
	return fail.Hint(err, "%s is %s", in, kindOf(v))
}

// Keys lists the dotted names of all values below v, objects included, in order.
func Keys(v any) []string {
	var out []string
	var walk func(v any, at string)
	walk = func(v any, at string) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, dotted(at, k))
			walk(m[k], dotted(at, k))
		}
	}
	walk(v, "")
	return out
}

// Redact returns a copy of v with every secret replaced by [Redacted]: values
// under keys that name one (password, passphrase, secret, token, privkey), text
// that holds a private key, and the password part of URLs. manta.key is a path
// and stays.
func Redact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if secretKey(k) && !falsy(e) {
				out[k] = Redacted
				continue
			}
			out[k] = Redact(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = Redact(e)
		}
		return out
	case string:
		return redactText(v)
	}
	return v
}

func secretKey(name string) bool {
	name = strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
	for _, word := range []string{"password", "passwd", "passphrase", "secret", "token", "privkey", "privatekey"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func redactText(s string) string {
	if strings.Contains(s, "PRIVATE KEY") {
		return Redacted
	}
	if !strings.Contains(s, "://") || !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Redacted // it may hold a password that cannot be told apart
	}
	if _, has := u.User.Password(); !has {
		return s
	}
	u.User = url.UserPassword(u.User.Username(), "redacted")
	return u.String()
}

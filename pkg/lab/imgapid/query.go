package imgapid

import (
	"net/url"
	"strconv"
	"strings"
)

// A query is a query string as the upstream parser reads it: never an error,
// and a name that comes twice is a list.
type query struct {
	keys []string
	vals map[string][]string
}

func parseQuery(raw string) query {
	q := query{vals: map[string][]string{}}
	for _, part := range strings.Split(raw, "&") {
		if part == "" || len(q.keys) >= 1000 {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k = unescape(k)
		if _, ok := q.vals[k]; !ok {
			q.keys = append(q.keys, k)
		}
		q.vals[k] = append(q.vals[k], unescape(v))
	}
	return q
}

// unescape leaves text alone that cannot be decoded.
func unescape(s string) string {
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}

func (q query) has(key string) bool { return len(q.vals[key]) > 0 }

// get is the value as text: a list is joined by commas.
func (q query) get(key string) string { return strings.Join(q.vals[key], ",") }

// list says whether the parameter came more than once.
func (q query) list(key string) bool { return len(q.vals[key]) > 1 }

// boolean reads a parameter that must be true or false.
func (q query) boolean(key string) (bool, error) {
	if !q.has(key) {
		return false, nil
	}
	v := q.get(key)
	if q.list(key) || v != "true" && v != "false" {
		return false, errField("InvalidParameter", key, "Invalid", "invalid value for %q param: %s is not a boolean", key, strconv.Quote(v))
	}
	return v == "true", nil
}

// A versionRange is an Accept-Version: the alternatives of a semver range.
type versionRange []versionBound

type versionBound struct {
	op      string // "", "~", "^", ">=", ">", "<", "<="
	version [3]int
	parts   int
}

// parseVersion reads an Accept-Version. Absent means version 1.
func parseVersion(s string) (versionRange, bool) {
	if s == "" {
		s = "~1"
	}
	var r versionRange
	for _, alt := range strings.Split(s, "||") {
		alt = strings.TrimSpace(alt)
		b := versionBound{}
		for _, op := range []string{">=", "<=", ">", "<", "~", "^", "="} {
			if rest, ok := strings.CutPrefix(alt, op); ok {
				b.op, alt = op, strings.TrimSpace(rest)
				break
			}
		}
		if alt != "" && alt != "*" && alt != "x" {
			for _, n := range strings.Split(strings.TrimPrefix(alt, "v"), ".") {
				v, err := strconv.ParseUint(n, 10, 31)
				if n == "x" || n == "*" {
					break
				}
				if err != nil || b.parts == 3 {
					return nil, false
				}
				b.version[b.parts] = int(v)
				b.parts++
			}
		}
		r = append(r, b)
	}
	return r, true
}

func compareVersions(a, b [3]int) int {
	for i := range a {
		if a[i] != b[i] {
			if a[i] < b[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

func (b versionBound) allows(v [3]int) bool {
	if b.parts == 0 {
		return true
	}
	d := compareVersions(v, b.version)
	switch b.op {
	case ">=":
		return d >= 0
	case ">":
		return d > 0
	case "<=":
		return d <= 0
	case "<":
		return d < 0
	}
	same := b.parts
	switch b.op {
	case "~":
		same = min(b.parts, 2)
	case "^":
		same = 1
	}
	for i := range same {
		if v[i] != b.version[i] {
			return false
		}
	}
	return d >= 0
}

func (r versionRange) allows(v [3]int) bool {
	for _, b := range r {
		if b.allows(v) {
			return true
		}
	}
	return false
}

// served says whether one of the two versions on offer will do.
func (r versionRange) served() bool { return r.allows([3]int{1, 0, 0}) || r.allows([3]int{2, 0, 0}) }

// second says whether answers take the form of version 2.
func (r versionRange) second() bool { return r.allows([3]int{2, 0, 0}) }

package manta

import (
	"fmt"
	"net/http"
	"strings"
)

// Condition guards a Put or a Delete. The zero value is none: the last writer
// wins.
type Condition struct {
	kind conditionKind
	etag string
}

type conditionKind int

const (
	always conditionKind = iota
	ifAbsent
	ifMatch
)

// Absent lets a Put succeed only if nothing is there.
func Absent() Condition { return Condition{kind: ifAbsent} }

// Match lets a Put or Delete succeed only if the object still has this etag, as
// [Info] gave it. An empty etag is refused when the request is made.
func Match(etag string) Condition { return Condition{ifMatch, etag} }

// None says whether c is the zero condition.
func (c Condition) None() bool { return c.kind == always }

// header sets the If-Match header. The service compares the raw value with the
// etag, which has no quotes; "absent" is the empty etag written as two quotes.
// If-None-Match: * would fail always, object or not.
func (c Condition) header(h http.Header) {
	switch c.kind {
	case ifAbsent:
		h.Set("If-Match", `""`)
	case ifMatch:
		h.Set("If-Match", c.etag)
	}
}

// check refuses an etag that the service would read as no condition or as
// another one.
func (c Condition) check() error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ',' || r == '*' }
	if c.kind == ifMatch && (c.etag == "" || strings.ContainsFunc(c.etag, bad)) {
		return fmt.Errorf("condition: %q is not an etag", c.etag)
	}
	return nil
}

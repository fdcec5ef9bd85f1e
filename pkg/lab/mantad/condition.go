package mantad

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

var (
	quotedRE = regexp.MustCompile(`^"(\w*)"$`)
	commaRE  = regexp.MustCompile(`\s*,\s*`)
)

// etagMatches compares an If-Match or If-None-Match header with the current etag
// (empty: absent). Quotes go only from around word characters, so that a quoted
// object id, which has hyphens, never matches, while `""` does match absence.
func etagMatches(header, etag string) bool {
	for _, v := range commaRE.Split(header, -1) {
		v = strings.TrimPrefix(v, "W/")
		v = quotedRE.ReplaceAllString(v, "$1")
		if v == "*" || v == etag {
			return true
		}
	}
	return false
}

// condition checks the conditional headers against the loaded entry, before any
// body is read. A header with an empty value is none.
func (c *call) condition() error {
	h := c.r.Header
	etag := c.w.Header().Get("Etag")
	read := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	if v := strings.Join(h.Values("If-Match"), ", "); v != "" && !etagMatches(v, etag) {
		return errPrecondition("if-match '%s' didn't match etag '%s'", v, etag)
	}
	if v := strings.Join(h.Values("If-None-Match"), ", "); v != "" && etagMatches(v, etag) {
		if read {
			return &apiError{status: http.StatusNotModified, code: "NotModified", bare: true}
		}
		return errPrecondition("if-none-match '%s' matched etag '%s'", v, etag)
	}
	mtime := c.w.Header().Get("Last-Modified")
	m, ok := parseDate(mtime)
	if !ok {
		return nil
	}
	if t, ok := headerDate(h, "If-Modified-Since"); ok && !m.After(t) {
		if read {
			return &apiError{status: http.StatusNotModified, code: "NotModified", bare: true}
		}
		return errPrecondition("object was modified at '%s'; if-modified-since '%s'", mtime, h.Get("If-Modified-Since"))
	}
	if t, ok := headerDate(h, "If-Unmodified-Since"); ok && m.After(t) {
		return errPrecondition("object was modified at '%s'; if-unmodified-since '%s'", mtime, h.Get("If-Unmodified-Since"))
	}
	return nil
}

func headerDate(h http.Header, name string) (time.Time, bool) {
	v := h.Get(name)
	if v == "" {
		return time.Time{}, false
	}
	return parseDate(v)
}

// commit returns the condition of the final write: any If-Match or If-None-Match
// header, even an empty one, ties it to the row that was read. Without one the
// last writer wins.
func (c *call) commit() *cas {
	_, a := c.r.Header["If-Match"]
	_, b := c.r.Header["If-None-Match"]
	if a || b {
		return &cas{was: c.entry}
	}
	return nil
}

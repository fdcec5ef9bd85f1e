package mantad

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	faults "github.com/tritonops/tritonops/pkg/lab/fault"
)

const dirContentType = "application/x-json-stream; type=directory"

// born is the modification time an account's areas are listed with.
const born = "2013-05-22T17:39:43.714Z"

// accountRoot is /:login: a list of the areas, and nothing else is allowed.
func (c *call) accountRoot() error {
	if !isRead(c.r.Method) {
		return errRoot(c.r.Method, c.path)
	}
	if c.caller.Login != c.owner && !c.caller.Operator {
		return errNotAllowed(c.caller.name(), c.path)
	}
	names := areas()
	if m := c.query.Get("marker"); m != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n <= m }) // not inclusive, unlike directories
	}
	h := c.w.Header()
	h.Set("Content-Type", dirContentType)
	h.Set("Result-Set-Size", strconv.Itoa(len(names)))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	var b []byte
	for _, n := range names {
		b = append(b, `{"name":"`+n+`","type":"directory","mtime":"`+born+"\"}\n"...)
	}
	_, _ = c.w.Write(b) // the client is gone then
	return nil
}

// putDirectory makes a directory. One that is there with the same headers stays
// as it is; an object in its place is replaced.
func (c *call) putDirectory() error {
	if err := c.parentDirectory(); err != nil {
		return err
	}
	e := &entry{dir: true}
	if err := c.describe(e, c.entry); err != nil {
		return err
	}
	if c.entry != nil && c.entry.dir && slices.Equal(c.entry.attrs, e.attrs) {
		c.noContent()
		return nil
	}
	if err := c.write(e); err != nil {
		return err
	}
	c.w.Header().Del("Etag")
	c.noContent()
	return nil
}

// remove is DELETE of an object or an empty directory.
func (c *call) remove() error {
	if c.root {
		return errRoot(c.r.Method, c.path)
	}
	if c.isDir() {
		if c.s.store.size(c.key) > 0 {
			return fault(http.StatusBadRequest, "DirectoryNotEmpty", "%s is not empty", c.path)
		}
	} else if err := c.condition(); err != nil {
		return err
	}
	gone, err := c.s.store.remove(c.key, c.commit())
	switch {
	case errors.Is(err, errConflict):
		return errConcurrent(c.path)
	case err != nil:
		return err
	case !gone:
		return fault(http.StatusNotFound, "ResourceNotFound", "%s does not exist", c.path)
	}
	c.noContent()
	return nil
}

// listing is a checked request for a page of a directory.
type listing struct {
	limit   int
	marker  string
	since   int64 // marker of an mtime order
	byMtime bool
	unsort  bool
	reverse bool
	dirs    bool
	objects bool
}

// list is GET and HEAD of a directory.
func (c *call) list() error {
	total := c.s.store.size(c.key)
	var l listing
	if c.r.Method == http.MethodGet {
		var err error
		if l, err = c.parseListing(); err != nil {
			return err
		}
	}
	if c.entry != nil {
		c.customHeaders(c.entry)
	}
	h := c.w.Header()
	h.Set("Content-Type", dirContentType)
	h.Set("Result-Set-Size", strconv.Itoa(total))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	_, plain := faults.Flagged(c.r.Context(), faults.NoContentMD5)
	plain = plain || c.s.cfg.OmitListMD5
	page := c.s.store.page(c.key, l)
	var b []byte
	for _, e := range page {
		b = appendEntry(b, e, plain)
	}
	if _, err := c.w.Write(b); err != nil {
		return nil // the client is gone
	}
	if _, ok := faults.Flagged(c.r.Context(), faults.EndlessListing); ok {
		c.listForever(page, plain)
	}
	return nil
}

// listForever goes on with names that do not exist until the client gives up.
func (c *call) listForever(page []*entry, plain bool) {
	e := entry{name: "entry", mtime: c.s.cfg.Clock().UnixMilli(), ctype: "application/octet-stream", size: 1, copies: 2, id: newID()}
	if len(page) > 0 {
		e = *page[len(page)-1]
	}
	base := e.name
	end := time.Now().Add(faults.MaxDelay)
	for i := 0; time.Now().Before(end) && c.r.Context().Err() == nil; i++ {
		e.name = base + "~" + strconv.Itoa(i)
		if _, err := c.w.Write(appendEntry(nil, &e, plain)); err != nil {
			return
		}
	}
}

func (c *call) parseListing() (listing, error) {
	q := c.query
	l := listing{marker: q.Get("marker"), reverse: q.Get("sort_order") == "reverse", byMtime: q.Get("sort") == "mtime", unsort: q.Get("sort") == "none"}
	if !c.caller.Operator && (l.unsort || q.Get("skip_owner_check") == "true") {
		bad := "skip_owner_check=true"
		if l.unsort {
			bad = "sort=none"
		}
		return l, fault(http.StatusForbidden, "QueryParameterForbidden", "Use of these query parameters is restricted to operators: %s", bad)
	}
	var err error
	if l.limit, err = parseLimit(q.Get("limit")); err != nil {
		return l, err
	}
	dir, obj := q.Has("dir") || q.Has("directory"), q.Has("obj") || q.Has("object")
	l.dirs, l.objects = dir || !obj, obj || !dir
	if l.unsort {
		l.marker = ""
	}
	if _, again := faults.Flagged(c.r.Context(), faults.RepeatListing); again {
		l.marker = ""
	}
	if l.byMtime && l.marker != "" {
		t, ok := parseDate(l.marker)
		if !ok {
			return l, fault(http.StatusBadRequest, "InvalidParameter", `"%s" is invalid for "marker"`, l.marker)
		}
		l.since = t.UnixMilli()
	}
	return l, nil
}

// parseLimit reads as many digits as there are, as parseInt does.
func parseLimit(s string) (int, error) {
	if s == "" {
		return 256, nil
	}
	i := 0
	if s[0] == '-' || s[0] == '+' {
		i = 1
	}
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, err := strconv.Atoi(s[:i])
	if err != nil && i < 10 {
		return 0, errInternal() // not a number at all: the database refuses it
	}
	if err != nil || n <= 0 || n > 1024 {
		return 0, fault(http.StatusBadRequest, "InvalidArgumentError", "limit=%s is invalid: must be between [1, 1024]", s[:i])
	}
	return n, nil
}

// page returns the entries of one page.
func (s *store) page(dir string, l listing) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d := s.dirs[dir]
	if d == nil {
		return nil
	}
	if l.byMtime {
		return d.byMtime(l)
	}
	page := make([]*entry, 0, min(l.limit, d.n))
	take := func(e *entry) bool {
		if e.dir && l.dirs || !e.dir && l.objects {
			page = append(page, e)
		}
		return len(page) < l.limit
	}
	if l.reverse {
		d.descend(l.marker, l.marker == "", take)
	} else {
		d.ascend(l.marker, take)
	}
	return page
}

// byMtime lists the latest first, or with reverse the oldest.
func (d *dirIndex) byMtime(l listing) []*entry {
	var all []*entry
	d.ascend("", func(e *entry) bool {
		in := l.marker == "" || l.reverse && e.mtime >= l.since || !l.reverse && e.mtime <= l.since
		if in && (e.dir && l.dirs || !e.dir && l.objects) {
			all = append(all, e)
		}
		return true
	})
	slices.SortStableFunc(all, func(a, b *entry) int {
		if l.reverse {
			a, b = b, a
		}
		switch {
		case a.mtime > b.mtime:
			return -1
		case a.mtime < b.mtime:
			return 1
		}
		return 0
	})
	return all[:min(l.limit, len(all))]
}

// appendEntry adds one line of a listing.
func appendEntry(b []byte, e *entry, plain bool) []byte {
	b = appendJSON(append(b, `{"name":`...), e.name)
	if e.dir {
		b = append(b, `,"type":"directory"`...)
	} else {
		b = append(append(append(b, `,"etag":"`...), e.etag()...), `","size":`...)
		b = strconv.AppendInt(b, e.size, 10)
		b = appendJSON(append(b, `,"type":"object","contentType":`...), e.ctype)
		if v := e.attr("content-disposition"); v != "" {
			b = appendJSON(append(b, `,"contentDisposition":`...), v)
		}
		if !plain {
			b = append(base64.StdEncoding.AppendEncode(append(b, `,"contentMD5":"`...), e.md5[:]), '"')
		}
	}
	b = time.UnixMilli(e.mtime).UTC().AppendFormat(append(b, `,"mtime":"`...), "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	if !e.dir {
		b = strconv.AppendInt(append(b, `,"durability":`...), int64(e.copies), 10)
	}
	return append(b, "}\n"...)
}

// appendJSON adds a JSON string. It escapes what JSON demands and nothing else,
// as the service does.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		ch := s[i]
		if ch >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		switch {
		case ch == '"' || ch == '\\':
			b = append(b, '\\', ch)
		case ch == '\n':
			b = append(b, `\n`...)
		case ch == '\r':
			b = append(b, `\r`...)
		case ch == '\t':
			b = append(b, `\t`...)
		case ch < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[ch>>4], hex[ch&15])
		default:
			b = append(b, ch)
		}
		i++
	}
	return append(b, '"')
}

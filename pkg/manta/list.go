package manta

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"
)

const (
	pageSize = 1024 // the most the service gives
	// maxEntries ends a listing that goes on for ever; a directory holds at most a
	// million.
	maxEntries = 1 << 21
	maxLine    = 1 << 20  // bytes of one entry
	maxPage    = 64 << 20 // bytes of one page
)

// ListOptions chooses what a listing yields.
type ListOptions struct {
	Limit   int    // at most this many entries; 0 is all
	Marker  string // only names behind this one, in the order asked for; not with SortMTime
	Dirs    bool   // only directories
	Objects bool   // only objects
	Reverse bool   // last name first; with SortMTime, oldest first
	// SortMTime orders by time, the newest first. A directory with more than 1024
	// entries of one and the same time cannot be listed so.
	SortMTime bool
}

// List yields the entries of a directory: byte order of the names, unless asked
// otherwise. Path, Name, Type, ETag, Size, MD5 (nil where an old front end leaves
// it out), ContentType, MTime and Durability are set. It ends with the first
// error. An absent directory is ErrNotFound, an object ErrNotDirectory.
//
// The listing is read in pages; what is written meanwhile may or may not be seen.
// Names are those the service sent, refused only if they could not name an entry:
// they are not safe as local paths.
func (c *Client) List(ctx context.Context, dir string, o ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		p, err := c.absolute(dir)
		if err == nil && o.SortMTime && o.Marker != "" {
			err = fmt.Errorf("%s: list: a marker makes no sense in order of time", p)
		}
		if err == nil && o.Limit < 0 {
			err = fmt.Errorf("%s: list: limit %d makes no sense", p, o.Limit)
		}
		if err != nil {
			yield(Info{}, err)
			return
		}
		l := &lister{c: c, dir: p, o: o, marker: o.Marker, page: pageSize, most: maxEntries}
		if o.Limit > 0 && o.Limit < pageSize && o.Dirs == o.Objects {
			l.page = o.Limit + 1 // one more, for the marker that comes again
		}
		if err := l.run(ctx, yield); err != nil {
			yield(Info{}, err)
		}
	}
}

// lister is the state of one listing.
type lister struct {
	c   *Client
	dir string
	o   ListOptions

	page     int             // entries asked for at once
	most     int             // entries after which it is endless
	marker   string          // of the next page
	last     entry           // the last accepted; zero before the first
	sameTime map[string]bool // names accepted with the time of last; SortMTime only
	total    int             // accepted, wanted or not
	yielded  int
	pages    int
	first    int // result-set-size of the first page, -1 if not told
}

// page is one answer.
type page struct {
	entries []entry
	size    int  // result-set-size, -1 if not told
	framed  bool // the body had a length or chunks, so its end is a real end
}

// run reads pages until the listing has provably ended.
func (l *lister) run(ctx context.Context, yield func(Info, error) bool) error {
	for {
		pg, err := l.fetch(ctx)
		if err != nil {
			return err
		}
		if l.pages++; l.pages == 1 {
			l.first = pg.size
		}
		fresh := 0
		for _, e := range pg.entries {
			repeated, err := l.accept(e)
			if err != nil {
				return err
			}
			if repeated {
				continue
			}
			fresh++
			if l.wanted(e) {
				l.yielded++
				if !yield(e.Info, nil) || l.o.Limit > 0 && l.yielded == l.o.Limit {
					return nil
				}
			}
		}
		if end, err := l.ended(pg, fresh); end || err != nil {
			return err
		}
	}
}

// accept checks the place of an entry in the order and makes it the last one. The
// marker comes again at the head of each page: that is a repetition.
func (l *lister) accept(e entry) (repeated bool, err error) {
	if l.o.SortMTime {
		return l.acceptByTime(e)
	}
	switch {
	case e.Name == l.marker && l.marker != "":
		return true, nil
	case l.marker != "" && (e.Name < l.marker) != l.o.Reverse:
		return false, l.bad("it goes back: %q after %q", e.Name, l.marker)
	}
	l.marker = e.Name
	return false, l.took(e)
}

func (l *lister) acceptByTime(e entry) (repeated bool, err error) {
	switch {
	case e.MTime.IsZero():
		return false, l.bad("%q has no time to be ordered by", e.Name)
	case l.total > 0 && e.MTime.Equal(l.last.MTime):
		if l.sameTime[e.Name] {
			return true, nil
		}
	case l.total > 0 && e.MTime.After(l.last.MTime) != l.o.Reverse:
		return false, l.bad("it goes back in time at %q", e.Name)
	default:
		l.sameTime = make(map[string]bool)
	}
	l.sameTime[e.Name] = true
	l.marker = e.MTime.Format(time.RFC3339Nano)
	return false, l.took(e)
}

func (l *lister) took(e entry) error {
	l.last = e
	if l.total++; l.total > l.most {
		return l.bad("it has no end: more than %d entries", l.most)
	}
	return nil
}

func (l *lister) wanted(e entry) bool {
	return l.o.Dirs == l.o.Objects || l.o.Dirs == e.IsDir()
}

// ended says whether a page was the last one. A full page is followed by another.
// A short one is the end only if the service's count agrees: a listing that fails
// inside the service ends like a complete one.
func (l *lister) ended(pg page, fresh int) (bool, error) {
	if fresh > 0 && len(pg.entries) == l.page {
		return false, nil
	}
	counted := pg.size >= 0 && l.o.Marker == ""
	switch {
	case len(pg.entries) == l.page: // nothing but repetitions
		return false, l.bad("it does not get past %q", l.marker)
	case counted && l.total >= pg.size:
		return true, nil
	case !counted && !pg.framed:
		return false, l.bad("neither the answer's length nor the number of entries is told: an end cannot be told from a cut")
	case (fresh > 0 || l.pages == 1) && (counted || l.o.Marker != ""):
		return false, nil // look behind the last entry
	case counted && pg.size == l.first:
		return false, l.bad("it ends after %d of %d entries", l.total, pg.size)
	}
	return true, nil // not counted, or the directory changed under our hands
}

func (l *lister) bad(format string, args ...any) error {
	return &Error{Op: "list", Path: l.dir, kind: ErrListing, cause: fmt.Errorf(format, args...)}
}

// fetch reads one page whole, so that it can be read again when the connection is
// lost in the middle of it.
func (l *lister) fetch(ctx context.Context) (page, error) {
	var pg page
	r := &request{op: "list", method: http.MethodGet, path: l.dir, accept: "application/x-json-stream", query: l.query()}
	r.handle = func(resp *http.Response, _ body) *Error {
		defer resp.Body.Close()
		e := &Error{Op: "list", Path: l.dir, Status: resp.StatusCode, RequestID: printable(resp.Header.Get("X-Request-Id"), 64)}
		info := headerInfo(l.dir, resp)
		if !info.IsDir() {
			e.kind, e.cause = ErrNotDirectory, fmt.Errorf("the answer is %q, not a listing", printable(info.ContentType, 80))
			return e
		}
		pg = page{size: info.ResultSetSize, framed: resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0}
		var err error
		pg.entries, err = readPage(resp.Body, l.dir, l.page)
		if err == nil {
			return nil
		}
		var transport *brokenPage
		if e.kind, e.cause = ErrListing, err; errors.As(err, &transport) {
			e.kind = ErrUnavailable
		}
		if ctx.Err() != nil {
			e.kind, e.cause = nil, ended(ctx)
		}
		return e
	}
	err := l.c.do(ctx, r)
	return pg, err
}

func (l *lister) query() string {
	q := "limit=" + strconv.Itoa(l.page)
	if l.marker != "" {
		q += "&marker=" + escape(l.marker, false)
	}
	if l.o.SortMTime {
		q += "&sort=mtime"
	}
	if l.o.Reverse {
		q += "&sort_order=reverse"
	}
	return q
}

// brokenPage is a page whose connection was lost: worth another attempt.
type brokenPage struct{ err error }

func (e *brokenPage) Error() string { return "listing broke off: " + e.err.Error() }
func (e *brokenPage) Unwrap() error { return e.err }

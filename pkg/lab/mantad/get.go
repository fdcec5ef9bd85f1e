package mantad

import (
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// get is GET and HEAD of an object.
func (c *call) get() error {
	if !accepts(c.r.Header.Get("Accept"), c.entry.ctype) {
		return fault(http.StatusNotAcceptable, "NotAcceptable", "%s accepts %s", c.path, c.entry.ctype)
	}
	if err := c.condition(); err != nil {
		return err
	}
	rng := c.r.Header.Get("Range")
	if strings.Contains(rng, ",") {
		return fault(http.StatusNotImplemented, "NotImplemented", "multi-range requests not supported")
	}
	c.customHeaders(c.entry)
	if c.entry.size == 0 || c.r.Method == http.MethodHead {
		c.objectHeaders(c.entry)
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	r, closer, err := c.open()
	if err != nil {
		return err
	}
	defer closer.Close()
	return c.send(r, rng)
}

// open opens the body. An object that was replaced since it was looked up has
// none any more: then the new one is served.
func (c *call) open() (io.ReaderAt, io.Closer, error) {
	for range 10 {
		r, closer, err := c.s.store.open(c.entry)
		if !errors.Is(err, fs.ErrNotExist) {
			return r, closer, err
		}
		if err := c.load(); err != nil {
			return nil, nil, err
		}
		if c.isDir() || c.entry.size == 0 {
			break
		}
	}
	return nil, nil, errInternal()
}

func (c *call) objectHeaders(e *entry) {
	h := c.w.Header()
	h.Set("Durability-Level", strconv.Itoa(int(e.copies)))
	h.Set("Content-Type", e.ctype)
	h.Set("Content-Length", strconv.FormatInt(e.size, 10))
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(e.md5[:]))
}

// customHeaders sends what was stored with the entry.
func (c *call) customHeaders(e *entry) {
	h := c.w.Header()
	for _, a := range e.attrs {
		if a.name == "access-control-allow-origin" {
			if o := c.r.Header.Get("Origin"); o != "" {
				if !slices.Contains(commaRE.Split(a.value, -1), o) && a.value != "*" {
					continue
				}
				h.Set(a.name, o)
				continue
			}
		}
		h.Set(a.name, a.value)
	}
}

// send answers with the body, or the range asked for. A range that does not parse
// is ignored, but costs the Content-MD5 header.
func (c *call) send(r io.ReaderAt, rng string) error {
	e := c.entry
	c.objectHeaders(e)
	h := c.w.Header()
	off, n, status := int64(0), e.size, http.StatusOK
	switch from, count, kind := parseRange(rng, e.size); {
	case rng == "":
		h.Set("Accept-Ranges", "bytes")
	case kind == rangeInvalid:
		for _, k := range []string{"Content-Md5", "Durability-Level", "Content-Type"} {
			h.Del(k)
		}
		err := fault(http.StatusRequestedRangeNotSatisfiable, "RangeNotSatisfiable", "%s is an invalid range", rng)
		err.header = map[string]string{"Content-Range": "bytes */" + strconv.FormatInt(e.size, 10)}
		return err
	case kind == rangeOK:
		off, n, status = from, count, http.StatusPartialContent
		h.Set("Content-Range", "bytes "+strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+n-1, 10)+"/"+strconv.FormatInt(e.size, 10))
		fallthrough
	default:
		h.Del("Content-Md5")
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	return c.copyBody(r, off, n, status)
}

// copyBody sends n bytes from off. A small body is read before the answer begins,
// so that one whose pack went away meanwhile is an error and not half an answer.
func (c *call) copyBody(r io.ReaderAt, off, n int64, status int) error {
	if n <= smallBody {
		p := c.s.store.blobs.small.Get().(*[]byte)
		defer c.s.store.blobs.small.Put(p)
		if _, err := r.ReadAt((*p)[:n], off); err != nil && err != io.EOF {
			return errInternal()
		}
		c.w.WriteHeader(status)
		_, _ = c.w.Write((*p)[:n]) // the client is gone then
		return nil
	}
	c.w.WriteHeader(status)
	if f, ok := r.(*os.File); ok && c.r.TLS == nil {
		if _, err := f.Seek(off, io.SeekStart); err == nil {
			_, _ = io.Copy(c.w, io.LimitReader(f, n)) // the client is gone, or sees a short body
			return nil
		}
	}
	p := c.s.store.blobs.chunks.Get().(*[]byte)
	defer c.s.store.blobs.chunks.Put(p)
	for end := off + n; off < end; {
		m, err := r.ReadAt((*p)[:min(int64(len(*p)), end-off)], off)
		if m == 0 && err != nil {
			return nil // shorter than promised: the client sees it
		}
		if _, err := c.w.Write((*p)[:m]); err != nil {
			return nil // the client is gone
		}
		off += int64(m)
	}
	return nil
}

const (
	rangeNone = iota
	rangeOK
	rangeInvalid
)

var rangeRE = regexp.MustCompile(`^bytes=\s*(\d*)\s*-\s*(\d*)\s*$`)

// parseRange reads a single byte range of a body of size bytes (more than none).
func parseRange(s string, size int64) (off, n int64, kind int) {
	m := rangeRE.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[2] == "" {
		return 0, 0, rangeNone
	}
	if m[1] == "" {
		last, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			last = size
		}
		if last == 0 {
			return 0, 0, rangeInvalid
		}
		last = min(last, size)
		return size - last, last, rangeOK
	}
	from, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || from >= size {
		return 0, 0, rangeInvalid
	}
	to := size - 1
	if m[2] != "" {
		if v, err := strconv.ParseInt(m[2], 10, 64); err == nil {
			if v < from {
				return 0, 0, rangeNone
			}
			to = min(v, to)
		}
	}
	return from, to - from + 1, rangeOK
}

// accepts says whether an Accept header takes a content type. A type that does
// not parse counts as application/octet-stream.
func accepts(header, ctype string) bool {
	if strings.TrimSpace(header) == "" {
		return true
	}
	t, _, _ := strings.Cut(ctype, ";")
	major, minor, ok := strings.Cut(strings.ToLower(strings.TrimSpace(t)), "/")
	if !ok || major == "" || minor == "" {
		major, minor = "application", "octet-stream"
	}
	best, quality := -1, 0.0
	for _, spec := range strings.Split(header, ",") {
		parts := strings.Split(spec, ";")
		a, b, _ := strings.Cut(strings.ToLower(strings.TrimSpace(parts[0])), "/")
		rank := -1
		switch {
		case a == major && b == minor:
			rank = 2
		case a == major && b == "*":
			rank = 1
		case a == "*" && b == "*":
			rank = 0
		}
		if rank < 0 || rank < best {
			continue
		}
		q := 1.0
		for _, p := range parts[1:] {
			if k, v, _ := strings.Cut(strings.TrimSpace(p), "="); k == "q" {
				q, _ = strconv.ParseFloat(v, 64) // what does not parse is 0
			}
		}
		best, quality = rank, q
	}
	return best >= 0 && quality > 0
}

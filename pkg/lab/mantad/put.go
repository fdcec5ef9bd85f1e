package mantad

import (
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	faults "github.com/tritonops/tritonops/pkg/lab/fault"
)

// maxUserMetadata is what m-* header values may take in all; further ones are
// dropped.
const maxUserMetadata = 4 << 10

var metaRE = regexp.MustCompile(`^m-\w+`)

// storedHeaders are kept with an entry next to m-*.
func storedHeaders() []string {
	return []string{
		"access-control-allow-headers", "access-control-allow-origin", "access-control-expose-headers",
		"access-control-max-age", "access-control-allow-methods", "cache-control", "surrogate-key",
	}
}

// upload is what the headers of an object PUT say.
type upload struct {
	limit  int64 // most bytes the body may have
	copies int
	empty  bool
	update bool // ?metadata=true: change the headers, keep the body
}

// putObject is PUT of an object, in the order of the service's checks. Nothing
// touches the body before all of them held: that is when 100 Continue is sent.
func (c *call) putObject() error {
	if err := c.condition(); err != nil {
		return err
	}
	if ct := c.r.Header.Get("Content-Type"); c.root && ct != "" && ct != dirContentType {
		return errRoot(c.r.Method, c.path)
	}
	up, err := c.uploadHeaders()
	if err != nil {
		return err
	}
	if err := c.uploadPlace(up); err != nil {
		return err
	}
	if up.update {
		return c.putMetadata()
	}
	return c.store(up)
}

// uploadHeaders checks length and durability, in that order.
func (c *call) uploadHeaders() (up upload, err error) {
	h := c.r.Header
	up.update = c.query.Get("metadata") != ""
	if c.isDir() {
		return up, c.frozenHeaders(" on a directory")
	}
	switch {
	case slices.Contains(c.r.TransferEncoding, "chunked"):
		if up.limit, err = c.streamLimit(); err != nil {
			return up, err
		}
		if c.s.cfg.MaxObject > 0 {
			up.limit = min(up.limit, c.s.cfg.MaxObject)
		}
	case c.r.ContentLength <= 0: // absent or zero: the service makes no difference
		up.empty = true
	default:
		up.limit = c.r.ContentLength
	}
	if up.copies, err = c.copies(h); err != nil {
		return up, err
	}
	if !up.update {
		return up, nil
	}
	if err := c.frozenHeaders(""); err != nil {
		return up, err
	}
	if c.entry == nil {
		return up, errNotFound(c.path)
	}
	return up, nil
}

func (c *call) streamLimit() (int64, error) {
	v := c.r.Header.Get("Max-Content-Length")
	if v == "" {
		return c.s.cfg.MaxStreaming, nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil {
		return 0, errInternal() // the service trips over what is not a number
	}
	if n < 0 {
		return 0, fault(http.StatusBadRequest, "InvalidMaxContentLength", "%d is an invalid max-content-length value", n)
	}
	return n, nil
}

func (c *call) copies(h http.Header) (int, error) {
	v := h.Get("Durability-Level")
	if v == "" {
		v = h.Get("X-Durability-Level")
	}
	if v == "" {
		return 2, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 1 || n > c.s.cfg.MaxCopies {
		return 0, fault(http.StatusBadRequest, "InvalidDurabilityLevel", "durability-level must be between 1 and %d", c.s.cfg.MaxCopies)
	}
	return n, nil
}

// frozenHeaders refuses headers that a change of metadata cannot carry.
func (c *call) frozenHeaders(extra string) error {
	for _, k := range []string{"content-length", "content-md5", "durability-level"} {
		if c.r.Header.Get(k) != "" || k == "content-length" && c.r.ContentLength > 0 {
			return fault(http.StatusBadRequest, "InvalidUpdate", `overwrite of "%s" forbidden%s`, k, extra)
		}
	}
	return nil
}

// uploadPlace checks what is at the path and above it.
func (c *call) uploadPlace(up upload) error {
	if c.isDir() && !up.update {
		return fault(http.StatusBadRequest, "OperationNotAllowedOnDirectory", "%s is a directory: %s is not allowed", c.path, c.r.Method)
	}
	if err := c.parentDirectory(); err != nil {
		return err
	}
	if up.update {
		return nil
	}
	if c.s.store.size(c.parent) > c.s.cfg.MaxDirEntries {
		return fault(http.StatusConflict, "DirectoryLimitExceeded", "%s cannot exceed 1,000,000 entries", c.parent)
	}
	if up.empty {
		return nil
	}
	_, full := faults.Flagged(c.r.Context(), faults.DiskFull)
	if full || c.s.cfg.MaxObject > 0 && c.r.ContentLength > c.s.cfg.MaxObject {
		return errNoSpace(up.limit)
	}
	return nil
}

// parentDirectory refuses a path below an object. That there is no parent at all
// was found earlier, unless it went away since.
func (c *call) parentDirectory() error {
	if c.root || c.isArea(c.parent) {
		return nil
	}
	p := c.s.store.get(c.parent)
	dir, _ := splitPath(c.path)
	switch {
	case p == nil:
		return fault(http.StatusNotFound, "DirectoryDoesNotExist", "%s does not exist", dir)
	case !p.dir:
		return fault(http.StatusBadRequest, "ParentNotDirectory", "%s is not a directory", dir)
	}
	return nil
}

// store takes the body and commits the object.
func (c *call) store(up upload) error {
	e := &entry{copies: uint8(up.copies), id: newID()}
	var b body
	var err error
	if up.empty {
		b.md5 = emptyMD5()
	} else if b, err = c.s.store.blobs.put(e.id, c.timedBody(), up.limit); err != nil {
		return c.bodyError(err, up)
	}
	if b.size == 0 {
		e.copies = 0 // an empty object is kept nowhere
	}
	err = c.checkMD5(b, up)
	if err == nil {
		e.size, e.md5, e.pack, e.off = b.size, b.md5, b.pack, b.off
		err = c.finishPut(e)
	}
	if err != nil {
		return errors.Join(err, c.s.store.blobs.drop(b))
	}
	return nil
}

func emptyMD5() [16]byte {
	return [16]byte{0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e}
}

func (c *call) bodyError(err error, up upload) error {
	switch {
	case errors.Is(err, errTooLarge):
		return fault(http.StatusRequestEntityTooLarge, "MaxContentLengthExceeded", "request has exceeded %d bytes", up.limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := fault(http.StatusRequestTimeout, "UploadTimeout", "request took too long to send data")
		e.header = map[string]string{"Connection": "close"}
		c.w.Header().Set("Connection", "close")
		return e
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return err // our disk, not the client
	}
	c.w.Header().Set("Connection", "close")
	return fault(499, "UploadAbandoned", "request was aborted prematurely by the client")
}

// checkMD5 compares Content-MD5 with what came. The service does not look at it
// for an empty object.
func (c *call) checkMD5(b body, up upload) error {
	want := c.r.Header.Get("Content-Md5")
	if want == "" || up.empty {
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(want)
	if err != nil || len(raw) != 16 {
		return fault(http.StatusBadRequest, "BadRequest", "Content-MD5 invalid")
	}
	if [16]byte(raw) != b.md5 {
		return fault(http.StatusBadRequest, "ContentMD5Mismatch", "Content-MD5 expected %s, but was %s",
			base64.StdEncoding.EncodeToString(b.md5[:]), want)
	}
	return nil
}

// finishPut fills in the stored headers and makes e the object.
func (c *call) finishPut(e *entry) error {
	if err := c.describe(e, c.entry); err != nil {
		return err
	}
	if err := c.write(e); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Etag", e.etag())
	h.Set("Last-Modified", httpTime(e.mtime))
	h.Set("Computed-Md5", base64.StdEncoding.EncodeToString(e.md5[:]))
	c.noContent()
	return nil
}

// putMetadata replaces the stored headers and keeps body and etag.
func (c *call) putMetadata() error {
	var e *entry
	if c.entry == nil { // an area nobody made: nothing to keep headers on
		e = &entry{dir: true}
	} else {
		cp := *c.entry
		e = &cp
	}
	if err := c.describe(e, c.entry); err != nil {
		return err
	}
	if err := c.write(e); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Last-Modified", httpTime(e.mtime))
	c.noContent()
	return nil
}

// write commits an entry under the request's condition.
func (c *call) write(e *entry) error {
	err := c.s.store.put(c.key, e, c.commit())
	if errors.Is(err, errConflict) {
		return errConcurrent(c.path)
	}
	return err
}

// noContent answers 204.
func (c *call) noContent() {
	if o := c.r.Header.Get("Origin"); o != "" && c.r.Method == http.MethodPut {
		c.w.Header().Set("Access-Control-Allow-Origin", o)
	}
	c.w.WriteHeader(http.StatusNoContent)
}

// describe sets what the request's headers say of an entry.
func (c *call) describe(e *entry, was *entry) error {
	h := c.r.Header
	e.mtime = c.s.cfg.Clock().UnixMilli()
	e.attrs = c.attrs()
	if e.dir {
		return nil
	}
	if v := h.Get("Content-Disposition"); v != "" {
		if _, _, err := mime.ParseMediaType(v); err != nil {
			return fault(http.StatusBadRequest, "BadRequest", "invalid content-disposition header: %q", v)
		}
		e.attrs = append(e.attrs, attr{"content-disposition", v})
	}
	if c.public() && !slices.ContainsFunc(e.attrs, func(a attr) bool { return a.name == "access-control-allow-origin" }) {
		e.attrs = append(e.attrs, attr{"access-control-allow-origin", "*"})
	}
	switch ct := h.Get("Content-Type"); {
	case ct != "":
		e.ctype = contentType(ct)
	case was != nil && !was.dir:
		e.ctype = was.ctype
	default:
		e.ctype = "application/octet-stream"
	}
	return nil
}

// attrs returns the headers that are kept, in a fixed order.
func (c *call) attrs() []attr {
	var list []attr
	for _, k := range storedHeaders() {
		if v := c.r.Header.Get(k); v != "" {
			list = append(list, attr{k, v})
		}
	}
	var names []string
	for k := range c.r.Header {
		if k = strings.ToLower(k); metaRE.MatchString(k) {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	size := 0
	for _, k := range names {
		v := strings.Join(c.r.Header.Values(k), ", ")
		if size += len(v); size < maxUserMetadata {
			list = append(list, attr{k, v})
		}
	}
	return list
}

// contentType mends a Content-Type without a subtype as the service does: it is
// taken for a file name extension.
func contentType(ct string) string {
	if i := strings.IndexByte(ct, '/'); i > 0 && i < len(ct)-1 {
		return ct
	}
	ext := ct[strings.LastIndexByte(ct, '.')+1:]
	if t, _, err := mime.ParseMediaType(mime.TypeByExtension("." + ext)); err == nil && t != "" {
		return t
	}
	return "application/octet-stream"
}

// mediaType tells requests for directories and links, which come as a parameter
// of the Content-Type, from those for objects.
func mediaType(ct string) string {
	t, params, err := mime.ParseMediaType(ct)
	if err == nil && t == "application/json" {
		return strings.ToLower(params["type"])
	}
	return ""
}

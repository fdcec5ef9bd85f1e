package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// GetOptions chooses what is read.
type GetOptions struct {
	Offset int64  // first byte
	Length int64  // number of bytes; 0 reads to the end
	ETag   string // if not empty, only this version; another is ErrPrecondition
}

// Object is an open object. Reading it to the end returns io.EOF only if the
// length and, where the whole object is read, the MD5 were right; else
// io.ErrUnexpectedEOF or ErrChecksum. An object whose answer carries no MD5 has
// Info.MD5 nil: then the length is all that was checked. It must be closed. Not
// safe for concurrent use.
type Object struct {
	Info Info // Size is that of the whole object, even if a range is read

	ctx    context.Context
	client *Client
	resp   *http.Response
	digest hash.Hash // nil if a range is read, or no MD5 is known
	at     int64     // offset in the object of the next byte
	end    int64     // offset behind the last byte wanted; -1 if not known
	tries  int       // attempts to resume without real progress between them
	broke  int64     // offset of the last break
	err    error     // what every further Read returns
}

// Get opens an object. The reader resumes a broken transfer by itself, at most
// Config.Retry.Attempts times without progress, and only if the object is still
// the same. ctx is that of the reading too.
func (c *Client) Get(ctx context.Context, path string, o GetOptions) (*Object, error) {
	p, err := c.absolute(path)
	if err != nil {
		return nil, err
	}
	if o.Offset < 0 || o.Length < 0 {
		return nil, fmt.Errorf("%s: get: range %d+%d makes no sense", p, o.Offset, o.Length)
	}
	ob := &Object{ctx: ctx, client: c, at: o.Offset, end: -1, Info: Info{Path: p}}
	ranged := o.Offset > 0 || o.Length > 0
	if o.Length > 0 {
		ob.end = o.Offset + o.Length
	}
	if err := ob.open(ranged, o.ETag, false); err != nil {
		return nil, err
	}
	if !ranged && ob.Info.MD5 != nil {
		ob.digest = md5.New()
	}
	return ob, nil
}

// open sends the GET for the bytes from ob.at on.
func (ob *Object) open(ranged bool, etag string, resuming bool) error {
	r := &request{op: "get", method: http.MethodGet, path: ob.Info.Path, accept: "*/*", header: http.Header{}, direct: resuming}
	if ranged {
		last := ""
		if ob.end >= 0 {
			last = strconv.FormatInt(ob.end-1, 10)
		}
		r.header.Set("Range", fmt.Sprintf("bytes=%d-%s", ob.at, last))
	}
	if etag != "" {
		if err := Match(etag).check(); err != nil {
			return fmt.Errorf("%s: get: %w", ob.Info.Path, err)
		}
		r.header.Set("If-Match", etag)
	}
	r.handle = func(resp *http.Response, _ body) *Error {
		if err := ob.begin(resp, ranged, resuming); err != nil {
			resp.Body.Close()
			return &Error{Op: "get", Path: r.path, Status: resp.StatusCode, cause: err}
		}
		return nil
	}
	return ob.client.do(ob.ctx, r)
}

// begin takes the head of an answer: what the object is, at first; that it is still
// the same and the range is the one asked for, later.
func (ob *Object) begin(resp *http.Response, ranged, resuming bool) error {
	info := headerInfo(ob.Info.Path, resp)
	if info.IsDir() {
		return errors.New("it is a directory")
	}
	if !ranged {
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d to a request for all of it", resp.StatusCode)
		}
		ob.Info, ob.resp, ob.end = info, resp, info.Size
		return nil
	}
	if resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("status %d to a request for a range", resp.StatusCode)
	}
	first, last, size, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if first != ob.at || ob.end >= 0 && last >= ob.end || resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
		return fmt.Errorf("another range than asked for: %q from byte %d", resp.Header.Get("Content-Range"), ob.at)
	}
	if resuming {
		// A range that ends early is resumed once more; a changed object is not.
		if info.ETag != ob.Info.ETag || size != ob.Info.Size {
			return errors.New("it changed during the transfer")
		}
		ob.resp = resp
		return nil
	}
	info.Size = size
	ob.Info, ob.resp = info, resp
	if ob.end < 0 || ob.end > size {
		ob.end = size
	}
	return nil
}

// parseContentRange reads "bytes first-last/size".
func parseContentRange(s string) (first, last, size int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if ok && ok2 && ok3 {
		var errs [3]error
		first, errs[0] = strconv.ParseInt(from, 10, 64)
		last, errs[1] = strconv.ParseInt(to, 10, 64)
		size, errs[2] = strconv.ParseInt(total, 10, 64)
		if errors.Join(errs[:]...) == nil && first >= 0 && first <= last && last < size {
			return first, last, size, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("content-range %q is not usable", printable(s, 64))
}

// Read reads the next bytes; see Object for what io.EOF promises.
func (ob *Object) Read(p []byte) (int, error) {
	for {
		if ob.err != nil {
			return 0, ob.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		want := p
		if ob.end >= 0 {
			if ob.at == ob.end {
				ob.err = ob.verdict()
				continue
			}
			want = p[:min(int64(len(p)), ob.end-ob.at)]
		}
		n, err := ob.resp.Body.Read(want)
		if n > 0 {
			ob.at += int64(n)
			if ob.digest != nil {
				ob.digest.Write(want[:n])
			}
			return n, nil // an error comes again with the next Read
		}
		if err != nil {
			ob.err = ob.broken(err)
		}
	}
}

// realProgress is how far a transfer must get between two breaks to be given all
// its attempts again; less would let a server drip for ever.
const realProgress = 1 << 20

// broken decides what an end of the body before the known end means: nil if the
// transfer goes on elsewhere.
func (ob *Object) broken(err error) error {
	ob.resp.Body.Close()
	if ob.end < 0 { // length unknown: only the MD5 tells whether this is the end
		if err == io.EOF && ob.digest != nil {
			return ob.verdict()
		}
		if err == io.EOF {
			return ob.fail(ErrChecksum, errors.New("neither length nor MD5 is told: an end cannot be told from a cut"))
		}
		return ob.fail(nil, err)
	}
	cause := fmt.Errorf("broke off at byte %d of %d: %w", ob.at, ob.end, io.ErrUnexpectedEOF)
	if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		cause = fmt.Errorf("%w: %w", cause, err)
	}
	if ob.at-ob.broke >= realProgress {
		ob.tries = 0
	}
	ob.broke = ob.at
	if ob.Info.ETag != "" && ob.tries < ob.client.cfg.Retry.Attempts && ob.ctx.Err() == nil {
		ob.tries++
		ob.client.cfg.Notify(fmt.Sprintf("%s: get: %v; resuming", ob.Info.Path, cause))
		err := sleep(ob.ctx, backoff(ob.client.cfg.Retry, ob.tries))
		if err == nil {
			err = ob.open(true, ob.Info.ETag, true)
		}
		if err == nil {
			return nil
		}
		return ob.fail(nil, fmt.Errorf("%w; not resumed: %w", cause, err))
	}
	if ob.ctx.Err() != nil {
		cause = fmt.Errorf("%w: %w", cause, ended(ob.ctx))
	}
	return ob.fail(nil, cause)
}

// verdict is the result of having read everything.
func (ob *Object) verdict() error {
	if ob.digest == nil {
		return io.EOF
	}
	if got := ob.digest.Sum(nil); !bytes.Equal(got, ob.Info.MD5) {
		return ob.fail(ErrChecksum, fmt.Errorf("MD5 of the %d bytes received is %x instead of %x", ob.at, got, ob.Info.MD5))
	}
	return io.EOF
}

func (ob *Object) fail(kind, cause error) error {
	return coded(&Error{Op: "get", Path: ob.Info.Path, Status: ob.resp.StatusCode, kind: kind, cause: cause,
		RequestID: printable(ob.resp.Header.Get("X-Request-Id"), 64)})
}

// Close ends the transfer. Closing before the end is no error.
func (ob *Object) Close() error {
	if ob.err == nil {
		ob.err = errors.New("object is closed")
	}
	if ob.err == io.EOF {
		// Reads the end mark of a body read to its length, so that the connection is kept.
		io.CopyN(io.Discard, ob.resp.Body, 1)
	}
	return ob.resp.Body.Close()
}

package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const (
	// expectOver is the content size from which the service is asked first. Smaller
	// ones are gone in the time the question takes.
	expectOver = 64 << 10
	// smallLimit is the largest content held in memory to be announced with its MD5.
	smallLimit = 1 << 20
)

// PutOptions describes how an object is written.
type PutOptions struct {
	ContentType string            // application/octet-stream if empty
	If          Condition         // none: overwrite
	Copies      int               // durability level 1 to 6; 0 leaves it to the service (2)
	Metadata    map[string]string // keys begin with "m-"; 4 KB in all
	Parents     bool              // make missing parent directories
	SendMD5     bool              // announce the MD5 of up to 1 MiB of content, so that wrong bytes are never stored
	// Believed is the MD5 that content over 1 MiB should have, 16 bytes; nil if
	// nothing is known. What the service tells is compared with it, which proves as
	// much as a sum made here and leaves the processor to the transfer. If they
	// differ, the source is read a second time and its own MD5 decides.
	Believed []byte
}

// Put writes an object of known length and returns what the service has stored:
// ETag, Size, MD5 and MTime. A source that fails or has another length than it
// says is ErrSource, and nothing is stored. Content that arrived with another MD5
// is ErrChecksum: without a condition it is sent again first; after the last
// attempt, and always with a condition, the wrong object is there, and the Info
// returned with the error has its ETag.
func (c *Client) Put(ctx context.Context, path string, src Source, o PutOptions) (Info, error) {
	p, err := c.absolute(path)
	if err != nil {
		return Info{}, err
	}
	r, err := putRequest(ctx, p, src, o)
	if err != nil {
		e := &Error{Op: "put", Path: p, kind: ErrSource, cause: err}
		if ctx.Err() != nil {
			e.kind, e.cause = nil, ended(ctx)
		}
		return Info{}, coded(e)
	}
	var info Info
	r.handle = func(resp *http.Response, b body) *Error {
		resp.Body.Close()
		var e *Error
		info, e = c.stored(ctx, r, resp, b)
		return e
	}
	err = c.withParents(ctx, p, o.Parents, func() error { return c.do(ctx, r) })
	if err != nil {
		if info.ETag == "" || !errors.Is(err, ErrChecksum) {
			info = Info{}
		}
		return info, err
	}
	info.ContentType = r.header.Get("Content-Type")
	info.Durability = o.Copies
	info.Metadata = o.Metadata
	return info, nil
}

// putRequest prepares a Put. Small content is read now, so that the transport can
// send it in one piece with the head.
func putRequest(ctx context.Context, path string, src Source, o PutOptions) (*request, error) {
	r := &request{op: "put", method: http.MethodPut, path: path, accept: "application/json",
		header: http.Header{}, cond: o.If, size: src.Size(), expect: src.Size() > expectOver}
	contentType := o.ContentType
	setDefault(&contentType, "application/octet-stream")
	r.header.Set("Content-Type", contentType)
	if o.Copies != 0 {
		r.header.Set("Durability-Level", strconv.Itoa(o.Copies))
	}
	for k, v := range o.Metadata {
		if !strings.HasPrefix(strings.ToLower(k), "m-") {
			return nil, fmt.Errorf("metadata %q: the name does not begin with m-", k)
		}
		r.header.Set(k, v)
	}
	switch {
	case r.size < 0:
		return nil, fmt.Errorf("size %d", r.size)
	case o.Believed != nil && len(o.Believed) != md5.Size:
		return nil, fmt.Errorf("believed MD5 of %d bytes", len(o.Believed))
	case r.size > smallLimit || r.size > expectOver && !o.SendMD5:
		r.open = func() (body, error) { return newStreamBody(src, o.Believed) }
		if o.Believed != nil {
			r.rehash = func() ([]byte, error) { return rehash(ctx, src) }
		}
		return r, nil
	}
	data, err := readSmall(ctx, src)
	if err != nil {
		return nil, err
	}
	sum := md5.Sum(data)
	if o.SendMD5 {
		r.header.Set("Content-Md5", formatMD5(sum[:]))
	}
	r.open = func() (body, error) { return newSmallBody(data, sum), nil }
	return r, nil
}

// stored compares what the service says it has with what was sent.
func (c *Client) stored(ctx context.Context, r *request, resp *http.Response, b body) (Info, *Error) {
	sum := b.sum()
	info := headerInfo(r.path, resp)
	info.Type, info.Size, info.MD5, info.ContentType = TypeObject, r.size, sum, ""
	got := parseMD5(resp.Header.Get("Computed-Md5"))
	announced := r.header.Get("Content-Md5") != ""
	if got == nil && !announced {
		head, err := c.Head(ctx, r.path)
		if err != nil {
			return info, r.unverified(resp, fmt.Errorf("stored, but not verified: %w", err))
		}
		if info.ETag != "" && head.ETag != info.ETag {
			return info, r.unverified(resp, errors.New("stored, but replaced by another writer before it could be verified"))
		}
		if got = head.MD5; got == nil {
			return info, r.unverified(resp, errors.New("stored, but the service does not tell its MD5"))
		}
	}
	if got != nil && !bytes.Equal(got, sum) && r.rehash != nil {
		var err error
		if sum, err = r.rehash(); err != nil {
			return info, r.unverified(resp, fmt.Errorf("stored, but not verified: its MD5 is not the one believed, and the content could not be read again: %w", err))
		}
		info.MD5 = sum
	}
	if got != nil && !bytes.Equal(got, sum) {
		e := r.unverified(resp, fmt.Errorf("the service has stored other bytes than were sent: MD5 %x instead of %x (etag %s)", got, sum, printable(info.ETag, 64)))
		r.applied = true
		return info, e
	}
	return info, nil
}

func (r *request) unverified(resp *http.Response, cause error) *Error {
	return &Error{Op: r.op, Path: r.path, Status: resp.StatusCode, kind: ErrChecksum, cause: cause,
		RequestID: printable(resp.Header.Get("X-Request-Id"), 64)}
}

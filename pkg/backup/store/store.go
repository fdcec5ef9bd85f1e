// Package store is the port through which backups reach the place that keeps
// them: a tree of objects named by slash-separated keys, with compare-and-set.
//
// Two implementations exist, mantastore (a directory of a Manta account) and
// filestore (a plain directory, for off-site and air-gapped copies). Package
// storetest holds the contract that both pass.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"
	"unicode"
)

// MD5 is the content MD5 of an object, the one hash every store can list.
type MD5 [16]byte

// Info describes one object or directory.
type Info struct {
	Key   string    // full key, no leading slash
	Dir   bool      // a directory: the fields below but MTime are zero
	Size  int64     // bytes
	ETag  string    // opaque, changes with every write, same bytes or not
	MD5   MD5       // of the content; zero where HasMD5 is false
	MTime time.Time // by the store's own clock, to the second or better
	// HasMD5 is false where a listing does not carry it (old Manta front ends):
	// Head then tells.
	HasMD5 bool
}

// Source is content that can be opened more than once, so that an upload can be
// retried. Size is the exact length in bytes.
type Source interface {
	Open() (io.ReadCloser, error)
	Size() int64
}

// Believer is a Source that knows which MD5 its content should have, such as an
// image file whose manifest says it. A store may compare what it received with
// that instead of hashing the content on its way; if they differ, the content is
// read again and what it really is decides. Info.MD5 is always that of the stored
// bytes.
type Believer interface {
	Source
	Believed() (MD5, bool)
}

// Condition guards a Put or a Delete. The zero value is no condition: the last
// writer wins.
type Condition struct {
	absent bool
	etag   string
}

// IfAbsent lets a Put succeed only if nothing is there.
func IfAbsent() Condition { return Condition{absent: true} }

// IfMatch lets a Put or Delete succeed only if the object still has this etag.
func IfMatch(etag string) Condition { return Condition{etag: etag} }

// Unconditional says whether c is the zero condition.
func (c Condition) Unconditional() bool { return c == Condition{} }

// Absent says whether c demands that nothing is there.
func (c Condition) Absent() bool { return c.absent }

// ETag returns the etag demanded, or "".
func (c Condition) ETag() string { return c.etag }

// The errors callers decide on. Implementations wrap them with the key and the
// cause.
var (
	ErrNotFound  = errors.New("not found")
	ErrCondition = errors.New("changed by another writer") // condition not met, or lost in a race
	// ErrUnknownOutcome is returned by a conditional request whose answer was
	// lost, or was a failure after all of the content had been sent: it may or may
	// not have been applied. Read back and decide.
	ErrUnknownOutcome = errors.New("outcome unknown")
	ErrCorrupt        = errors.New("content does not match its checksum")
	// ErrUnavailable covers an unreachable store and refused credentials.
	ErrUnavailable = errors.New("unreachable or not authorised")
	ErrBadKey      = errors.New("not a usable object name")
)

// Store keeps objects. All methods are safe for concurrent use and honour ctx.
//
// Unconditional operations are retried inside on passing trouble (5xx,
// throttling, lost connections). A conditional one is sent again only where the
// first attempt cannot have been applied: the connection broke before the whole of
// the request had left, or the store refused it before looking at its condition,
// because it does not know the key yet or the parent directory was missing. It is
// never sent again after an attempt that may have been applied
// (ErrUnknownOutcome), nor after any other answer.
type Store interface {
	// Put writes an object, making parent directories as needed, and verifies that
	// the store received the bytes that were sent. The returned Info has Size, ETag
	// and MD5. An object is visible whole or not at all.
	Put(ctx context.Context, key string, src Source, cond Condition) (Info, error)
	// Get opens an object. Reading it to the end returns io.EOF only if length and
	// MD5 were right, ErrCorrupt otherwise; a transfer cut short is never io.EOF. If it
	// cannot be resumed because the object was replaced meanwhile: ErrCondition.
	Get(ctx context.Context, key string) (io.ReadCloser, Info, error)
	// Head describes an object or directory.
	Head(ctx context.Context, key string) (Info, error)
	// Delete removes an object or an empty directory. Unconditionally deleting what
	// is not there is no error.
	Delete(ctx context.Context, key string, cond Condition) error
	// List yields the direct children of a directory in byte order of their names.
	// An absent directory is empty, and dir "" is the top of the store. It ends with
	// the first error; a name that CheckKey refuses is one.
	List(ctx context.Context, dir string) iter.Seq2[Info, error]
	// Now is the store's clock as last seen in an answer; it makes a request when
	// none was made yet. Ages of objects are measured against it, never the local
	// clock.
	Now(ctx context.Context) (time.Time, error)
	// String names the store for people: "/bob/stor/images at https://..." or
	// "file:///path". Never a secret.
	String() string
}

// CheckKey refuses a key that is not a plain relative path of printable
// components: empty, absolute, with "..", NUL, control or other characters that
// do not print, a backslash, broken UTF-8, over 1,024 bytes, or with a component
// over 255 bytes. Names read from a store are checked with it before
// they are used as anything.
func CheckKey(key string) error {
	if key == "" || len(key) > 1024 {
		return fmt.Errorf("%w: %d bytes long", ErrBadKey, len(key))
	}
	for c := range strings.SplitSeq(key, "/") {
		switch {
		case c == "" || c == "." || c == "..":
			return fmt.Errorf("%w: %q has an empty or dot component", ErrBadKey, key)
		case len(c) > 255:
			return fmt.Errorf("%w: component of %d bytes", ErrBadKey, len(c))
		case strings.ContainsFunc(c, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == '\\' }):
			return fmt.Errorf("%w: %q has a character that cannot be printed, or a backslash", ErrBadKey, key)
		}
	}
	return nil
}

// Bytes is a Source over a slice.
type Bytes []byte

// Open returns a reader of the slice.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Size returns its length.
func (b Bytes) Size() int64 { return int64(len(b)) }

// File is a Source over a file whose size was known when it was made; a file
// that turns out shorter or longer makes the upload fail.
type File struct {
	Path   string
	Length int64
}

// Open opens the file.
func (f File) Open() (io.ReadCloser, error) { return os.Open(f.Path) }

// Size returns the length it was made with.
func (f File) Size() int64 { return f.Length }

// Read returns a whole small object, at most limit bytes. One that is replaced
// during a transfer that breaks is read again.
func Read(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	for try := 1; ; try++ {
		b, info, err := readOnce(ctx, s, key, limit)
		if try == 5 || !errors.Is(err, ErrCondition) {
			return b, info, err
		}
	}
}

func readOnce(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	rc, info, err := s.Get(ctx, key)
	if err != nil {
		return nil, info, err
	}
	defer rc.Close()
	if info.Size > limit {
		return nil, info, fmt.Errorf("%s: %d bytes, more than the %d allowed here", key, info.Size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, info, fmt.Errorf("%s: %w", key, err)
	}
	if int64(len(b)) > limit {
		return nil, info, fmt.Errorf("%s: more than the %d bytes allowed here", key, limit)
	}
	return b, info, nil
}

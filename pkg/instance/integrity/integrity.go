// Package integrity checks image files against their manifests: size, SHA-1,
// content MD5 and, where the first bytes are those of an archive, whether it
// unpacks. It works on any place files are kept, through [Files].
//
// A file is read once: the hashes and the archive test share one pass. What was
// found good is remembered in a [Cache] until the file or its manifest changes.
// [Graph] tells which images depend on a broken one.
package integrity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/tritonops/tritonops/pkg/instance"
)

// The places an image file can be kept, as files[].stor of its manifest says.
const (
	Local = "local"
	Manta = "manta"
)

// State is what a check found.
type State string

// The states of an image file.
const (
	OK         State = "ok"
	Corrupt    State = "corrupt"    // there, but not what the manifest describes
	Missing    State = "missing"    // not there
	Unreadable State = "unreadable" // could not be looked at; says nothing about the bytes
)

// Stat describes a file without its content.
type Stat struct {
	Size int64  // bytes
	ID   string // changes whenever the bytes may have changed: an etag, or mtime and inode
}

// Files is a place that keeps image files. A file that is not there is
// fs.ErrNotExist. All methods are safe for concurrent use.
type Files interface {
	// Stat looks at a file ("file0") without reading it.
	Stat(ctx context.Context, uuid, name string) (Stat, error)
	// Open reads it from the start. io.EOF means that all of it was read.
	Open(ctx context.Context, uuid, name string) (io.ReadCloser, Stat, error)
}

// Target is one file to check.
type Target struct {
	UUID    string
	Name    string // of the image
	Version string
	File    string // "file0"
	Want    instance.File
}

// Targets lists the files of an image. The icon is not among them.
func Targets(m *instance.Manifest) []Target {
	out := make([]Target, len(m.Files))
	for n, f := range m.Files {
		out[n] = Target{UUID: m.UUID, Name: m.Name, Version: m.Version, File: fmt.Sprintf("file%d", n), Want: f}
	}
	return out
}

// Result is what the check of one file found.
type Result struct {
	UUID      string    `json:"uuid"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	File      string    `json:"file"`
	Stor      string    `json:"stor"`
	State     State     `json:"state"`
	Reasons   []string  `json:"reasons"`  // why it is not ok
	Warnings  []string  `json:"warnings"` // oddities that do no harm
	Size      int64     `json:"size"`     // bytes, as the manifest says
	SHA1      string    `json:"sha1"`     // as the manifest says
	Cached    bool      `json:"cached"`   // found good earlier and unchanged since
	CheckedAt time.Time `json:"checked_at"`

	Err error `json:"-"` // the cause, when Unreadable
}

// Progress is told of the work; pkg/ui has an implementation. See the methods of
// the same names there.
type Progress interface {
	Phase(name string, total int64, unit string)
	Add(n int64)
	Note(text string)
}

// Checker checks files. The zero value of every field but Stores is usable.
type Checker struct {
	Stores   map[string]Files // by stor; a file elsewhere is Unreadable
	Cache    *Cache           // nil: nothing is remembered
	Force    bool             // check also what the cache knows as good
	Simple   bool             // only existence and size; the cache is not used
	Parallel int              // files at a time, at least 1
	Progress Progress         // bytes are counted as they are read or skipped
	Now      func() time.Time // time.Now when nil

	// Reread returns the file's entry in the manifest as it is now, ok false when
	// it has none any more. A server at work may have replaced both meanwhile;
	// nothing is called broken on the word of an old manifest. nil: not asked.
	Reread func(ctx context.Context, t Target) (want instance.File, ok bool, err error)
}

// Check checks one file. The error is that of ctx only.
func (c *Checker) Check(ctx context.Context, t Target) (Result, error) {
	r := c.check(ctx, t)
	if r.State != OK && c.Reread != nil && ctx.Err() == nil {
		want, ok, err := c.Reread(ctx, t)
		switch {
		case err == nil && !ok:
			r.State, r.Reasons = OK, nil
			r.Warnings = append(r.Warnings, "removed while it was checked")
		case err == nil && want != t.Want:
			t.Want = want
			r = c.check(ctx, t)
		}
	}
	return r, ctx.Err()
}

func (c *Checker) check(ctx context.Context, t Target) Result {
	r := Result{
		UUID: t.UUID, Name: t.Name, Version: t.Version, File: t.File, Stor: t.Want.Stor,
		Size: t.Want.Size, SHA1: t.Want.SHA1, State: OK, CheckedAt: c.now(),
		Reasons: []string{}, Warnings: []string{},
	}
	if r.Stor == "" {
		r.Stor = Local
	}
	read := int64(0)
	add := func(n int64) { read += n; c.add(n) }
	defer func() { c.add(max(t.Want.Size-read, 0)) }() // so that the total adds up
	files := c.Stores[r.Stor]
	if files == nil {
		return unreadable(r, fmt.Errorf("stor is %q, which is not reachable from here", r.Stor))
	}
	st, err := files.Stat(ctx, t.UUID, t.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.State, r.Reasons = Missing, []string{"no such file"}
		return r
	case err != nil:
		return unreadable(r, err)
	case st.Size != t.Want.Size:
		r.State = Corrupt
		r.Reasons = []string{fmt.Sprintf("size is %d bytes, the manifest says %d", st.Size, t.Want.Size)}
		c.forget(r)
		return r
	case c.Simple:
		return r
	}
	if !c.Force && c.Cache != nil {
		if at, ok := c.Cache.good(r, st.ID); ok {
			r.Cached, r.CheckedAt = true, at
			return r
		}
	}
	return c.read(ctx, files, t, r, add)
}

// read opens the file and compares its bytes.
func (c *Checker) read(ctx context.Context, files Files, t Target, r Result, add func(int64)) Result {
	rc, st, err := files.Open(ctx, t.UUID, t.File)
	if err != nil {
		return unreadable(r, err)
	}
	v, err := Verify(ctx, rc, t.Want, add)
	if cerr := rc.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return unreadable(r, err)
	}
	r.Warnings = append(r.Warnings, v.Warnings...)
	if len(v.Problems) > 0 {
		r.State, r.Reasons = Corrupt, v.Problems
		c.forget(r)
		return r
	}
	// A file replaced while it was read is good only in the version read.
	if after, err := files.Stat(ctx, t.UUID, t.File); err == nil && after == st && c.Cache != nil {
		c.Cache.put(r, st.ID)
	}
	return r
}

func unreadable(r Result, err error) Result {
	r.State, r.Reasons, r.Err = Unreadable, []string{err.Error()}, err
	return r
}

func (c *Checker) forget(r Result) {
	if c.Cache != nil {
		c.Cache.forget(r)
	}
}

func (c *Checker) now() time.Time {
	if c.Now != nil {
		return c.Now().UTC()
	}
	return time.Now().UTC()
}

func (c *Checker) add(n int64) {
	if c.Progress != nil && n > 0 {
		c.Progress.Add(n)
	}
}

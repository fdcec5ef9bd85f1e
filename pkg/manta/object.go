package manta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Head describes an object or a directory.
func (c *Client) Head(ctx context.Context, path string) (Info, error) {
	p, err := c.absolute(path)
	if err != nil {
		return Info{}, err
	}
	var info Info
	err = c.do(ctx, &request{op: "head", method: http.MethodHead, path: p, accept: "application/json, */*",
		handle: func(resp *http.Response, _ body) *Error {
			resp.Body.Close()
			info = headerInfo(p, resp)
			return nil
		}})
	return info, err
}

// Delete removes an object or an empty directory. What is not there is
// ErrNotFound, unless a repeated attempt finds it gone: then the first one did it.
func (c *Client) Delete(ctx context.Context, path string, cond Condition) error {
	p, err := c.absolute(path)
	if err != nil {
		return err
	}
	if cond.kind == ifAbsent {
		return fmt.Errorf("%s: delete: a condition that nothing is there makes no sense", p)
	}
	r := &request{op: "delete", method: http.MethodDelete, path: p, accept: "application/json", cond: cond}
	err = c.do(ctx, r)
	if err == nil || errors.Is(err, ErrNotFound) {
		c.dirs.forget(p)
	}
	if r.applied && cond.None() && errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Mkdir makes a directory, whose parent must exist. One that exists is no error;
// an object in its place is ErrNotDirectory.
func (c *Client) Mkdir(ctx context.Context, path string) error {
	p, err := c.absolute(path)
	if err != nil {
		return err
	}
	if there, err := c.directory(ctx, "mkdir", p); there || err != nil {
		return err
	}
	return c.mkdir(ctx, p)
}

// directory says whether p is one, and remembers it. The service lets a directory
// replace an object, so whoever is not told by an answer that nothing is there
// has to look before making one.
func (c *Client) directory(ctx context.Context, op, p string) (bool, error) {
	info, err := c.Head(ctx, p)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, &Error{Op: op, Path: p, kind: ErrNotDirectory, cause: errors.New("an object is in its place")}
	}
	c.dirs.add(p)
	return true, nil
}

func (c *Client) mkdir(ctx context.Context, p string) error {
	err := c.do(ctx, &request{op: "mkdir", method: http.MethodPut, path: p, accept: "application/json",
		header: http.Header{"Content-Type": {"application/json; type=directory"}},
		handle: func(resp *http.Response, _ body) *Error {
			defer resp.Body.Close()
			io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody)) // so that the connection can be kept
			return nil
		}})
	if err == nil {
		c.dirs.add(p)
	}
	return err
}

// MkdirAll makes a directory and its missing parents. Directories this client has
// made, seen or written into are known and cost no request; "/account/stor" always
// exists. Of several concurrent calls for one directory, one makes it. An object
// in the place of any of them is ErrNotDirectory, and stays.
func (c *Client) MkdirAll(ctx context.Context, path string) error {
	p, err := c.absolute(path)
	if err != nil {
		return err
	}
	if c.dirs.known(p) {
		return nil
	}
	if there, err := c.directory(ctx, "mkdir", p); there || err != nil {
		return err
	}
	return c.makeMissing(ctx, p)
}

// makeMissing makes a directory that an answer said is missing, and its parents as
// far as the service says that they are: from the bottom up. Going down from the
// top would put a directory over an object that is in the way.
func (c *Client) makeMissing(ctx context.Context, p string) error {
	return c.dirs.once(ctx, p, func() error {
		if c.dirs.known(p) {
			return nil
		}
		at, above := c.dirs.now(), parent(p)
		err := c.mkdir(ctx, p)
		if !errors.Is(err, ErrParentMissing) || depth(above) <= fixedDepth {
			return err
		}
		c.dirs.missing(above, at)
		if err := c.makeMissing(ctx, above); err != nil {
			return err
		}
		return c.mkdir(ctx, p)
	})
}

// withParents runs put and, if told to, makes the missing parents and runs it
// again. A 404 proves that nothing was applied, so this holds for conditional
// writes too.
func (c *Client) withParents(ctx context.Context, path string, parents bool, put func() error) error {
	dir := parent(path)
	for round := 1; ; round++ {
		at := c.dirs.now()
		err := put()
		if err == nil {
			c.dirs.add(dir)
			return nil
		}
		// Three rounds: someone may remove directories while we make them, but not for ever.
		if !parents || !errors.Is(err, ErrParentMissing) || round == 3 || depth(dir) <= fixedDepth {
			return err
		}
		c.dirs.missing(dir, at)
		if merr := c.makeMissing(ctx, dir); merr != nil && !errors.Is(merr, ErrParentMissing) {
			return merr
		}
	}
}

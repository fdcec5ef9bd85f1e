package filestore

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Head implements [store.Store]. A file that has no valid record is read whole.
func (s *Store) Head(ctx context.Context, key string) (store.Info, error) {
	base, dir, err := s.find(ctx, key)
	if err != nil {
		return store.Info{}, err
	}
	defer base.Close()
	defer dir.Close()
	info, _, err := s.full(ctx, base, dir, key)
	if err != nil {
		return store.Info{}, s.wrap(key, err)
	}
	return info, nil
}

// Get implements [store.Store]. A file that has no valid record is read once
// before, for its MD5.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, store.Info, error) {
	base, dir, err := s.find(ctx, key)
	if err != nil {
		return nil, store.Info{}, err
	}
	defer base.Close()
	defer dir.Close()
	_, name := split(key)
	for {
		info, id, err := s.full(ctx, base, dir, key)
		if err == nil && info.Dir {
			err = syscall.EISDIR
		}
		if err != nil {
			return nil, store.Info{}, s.wrap(key, err)
		}
		f, fi, err := openFile(dir, name, os.O_RDONLY)
		if err == nil && identify(fi) == id {
			return &reader{ctx: ctx, key: key, f: f, h: md5.New(), info: info}, info, nil
		}
		if err == nil {
			f.Close()
		} else if !errors.Is(err, errSwapped) {
			return nil, store.Info{}, s.wrap(key, err)
		}
		// Overwritten between the two looks: describe the new one.
		if err := ctx.Err(); err != nil {
			return nil, store.Info{}, fmt.Errorf("%s: %w", key, err)
		}
	}
}

// find opens the top and the directory of an existing key. The caller closes
// both.
func (s *Store) find(ctx context.Context, key string) (base, dir *os.Root, err error) {
	if err := check(key); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, err)
	}
	if base, err = s.open(false); err != nil {
		return nil, nil, s.wrap(key, err)
	}
	at, _ := split(key)
	if dir, err = s.walk(base, at, false); err != nil {
		base.Close()
		return nil, nil, s.wrap(key, err)
	}
	return base, dir, nil
}

// full describes key with its MD5, read from the file if it must be.
func (s *Store) full(ctx context.Context, base, dir *os.Root, key string) (store.Info, identity, error) {
	info, id, err := s.settle(ctx, base, dir, key)
	if err != nil || info.Dir || info.HasMD5 {
		return info, id, err
	}
	return s.adopt(ctx, base, dir, key)
}

// reader verifies an object while it is read.
type reader struct {
	ctx  context.Context
	key  string
	f    *os.File
	h    hash.Hash
	n    int64
	info store.Info
	err  error // sticky
}

// Read returns io.EOF only after length and MD5 were found right.
func (r *reader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	r.n += int64(n)
	switch {
	case err == nil && r.n > r.info.Size, err == io.EOF && r.n != r.info.Size:
		r.err = fmt.Errorf("%s: %w: changed its length while it was read, %d bytes expected", r.key, store.ErrCorrupt, r.info.Size)
	case err == io.EOF && store.MD5(r.h.Sum(nil)) != r.info.MD5:
		r.err = fmt.Errorf("%s: %w: md5 %x, recorded %x", r.key, store.ErrCorrupt, r.h.Sum(nil), r.info.MD5)
	case err == io.EOF:
		r.err = io.EOF
	case err != nil:
		r.err = fmt.Errorf("%s: %w", r.key, err)
	}
	return n, r.err
}

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

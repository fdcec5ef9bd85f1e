package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string, cond store.Condition) error {
	base, dir, err := s.find(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return s.demand(nil, nil, key, cond)
	}
	if err != nil {
		return err
	}
	defer base.Close()
	defer dir.Close()
	l, err := s.lock(ctx, base, key, true)
	if err != nil {
		return s.wrap(key, err)
	}
	defer l.release()
	if err := s.demand(base, dir, key, cond); err != nil {
		return err
	}
	return s.remove(dir, l, cond)
}

// remove deletes what the lock is held for.
func (s *Store) remove(dir *os.Root, l *lock, cond store.Condition) error {
	_, name := split(l.key)
	fi, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.forget()
		return nil
	case err != nil:
		return s.wrap(l.key, err)
	case fi.IsDir():
		err = removeDir(dir, name)
	case fi.Mode().IsRegular():
		if err = dir.Remove(name); err == nil {
			l.forget()
		}
	default:
		err = notAFile(name, fi)
	}
	if err != nil {
		return s.wrap(l.key, err)
	}
	if err := s.syncDir(dir); err != nil {
		if !cond.Unconditional() {
			err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
		}
		return s.wrap(l.key, err)
	}
	return nil
}

// removeDir removes an empty directory. Leftovers of a crash do not count.
func removeDir(parent *os.Root, name string) error {
	err := parent.Remove(name)
	if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	dir, err2 := parent.OpenRoot(name)
	if err2 != nil {
		return err
	}
	defer dir.Close()
	if err := sweep(dir); err != nil {
		return err
	}
	return parent.Remove(name)
}

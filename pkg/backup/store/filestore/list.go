package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

// List implements [store.Store]; dir "" is the top. An object without a valid
// record comes without MD5. The names of the directory are held in memory.
func (s *Store) List(ctx context.Context, dir string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := checkDir(dir); err != nil {
			yield(store.Info{}, err)
			return
		}
		if err := s.list(ctx, dir, yield); err != nil {
			yield(store.Info{}, s.wrap(cmp.Or(dir, s.dir), err))
		}
	}
}

// list returns nil when the consumer has had enough, too.
func (s *Store) list(ctx context.Context, at string, yield func(store.Info, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	base, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer base.Close()
	dir, err := s.walk(base, at, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if at == "" && name == metaDir {
			continue
		}
		if strings.HasPrefix(name, durable.TempPrefix) {
			sweepOne(dir, name)
			continue
		}
		if more, err := s.listOne(ctx, base, dir, join(at, name), yield); err != nil || !more {
			return err
		}
	}
	return nil
}

// listOne yields one entry, unless it is gone or no business of ours.
func (s *Store) listOne(ctx context.Context, base, dir *os.Root, key string, yield func(store.Info, error) bool) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := store.CheckKey(key); err != nil {
		return false, err
	}
	info, _, err := s.settle(ctx, base, dir, key)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errForeign):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", key, err)
	}
	return yield(info, nil), nil
}

// readNames returns the names in dir in byte order.
func readNames(dir *os.Root) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

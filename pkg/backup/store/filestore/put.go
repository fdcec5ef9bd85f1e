package filestore

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/uuid"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, src store.Source, cond store.Condition) (store.Info, error) {
	if err := check(key); err != nil {
		return store.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Info{}, fmt.Errorf("%s: %w", key, err)
	}
	// As Manta does: a condition that does not hold now costs no transfer.
	if err := s.precheck(key, cond); err != nil {
		return store.Info{}, err
	}
	base, err := s.open(true)
	if err != nil {
		return store.Info{}, err
	}
	defer base.Close()
	w, err := s.create(base, key)
	if err != nil {
		return store.Info{}, s.wrap(key, err)
	}
	defer w.close()
	if err := w.fill(ctx, src); err != nil {
		return store.Info{}, s.wrap(key, err)
	}
	return s.commit(ctx, base, w, cond)
}

// precheck tests a condition without the lock. Only [Store.commit] decides.
func (s *Store) precheck(key string, cond store.Condition) error {
	if cond.Unconditional() {
		return nil
	}
	base, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return s.demand(nil, nil, key, cond)
	}
	if err != nil {
		return err
	}
	defer base.Close()
	name, _ := split(key)
	dir, err := s.walk(base, name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return s.demand(nil, nil, key, cond)
	}
	if err != nil {
		return s.wrap(key, err)
	}
	defer dir.Close()
	return s.demand(base, dir, key, cond)
}

// demand says whether key may be written or deleted under cond. A nil dir is an
// absent one.
func (s *Store) demand(base, dir *os.Root, key string, cond store.Condition) error {
	var info store.Info
	err := error(fs.ErrNotExist)
	if dir != nil {
		info, _, err = describe(base, dir, key)
	}
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !absent:
		return s.wrap(key, err)
	case cond.Unconditional():
		return nil
	case cond.Absent() && !absent:
		return fmt.Errorf("%s: %w: it exists", key, store.ErrCondition)
	case !cond.Absent() && absent:
		return fmt.Errorf("%s: %w: it is gone", key, store.ErrCondition)
	case !cond.Absent() && info.ETag != cond.ETag():
		return fmt.Errorf("%s: %w: its etag is %q", key, store.ErrCondition, info.ETag)
	}
	return nil
}

// write is one object on its way: a locked temporary file in the directory where
// it will end.
type write struct {
	key, name string
	dir       *os.Root
	temp      string // "" once renamed
	f         *os.File
	size      int64
	sum       store.MD5
	sync      bool
}

// create makes the directories of key and a temporary file.
func (s *Store) create(base *os.Root, key string) (*write, error) {
	at, name := split(key)
	var err error
	for range 10 { // somebody may be deleting the empty directory we are going to use
		var dir *os.Root
		if dir, err = s.walk(base, at, true); err == nil {
			w := &write{key: key, name: name, dir: dir, temp: durable.TempPrefix + uuid.NewString(), sync: s.sync}
			if w.f, err = dir.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
				if err = holdTemp(w.f); err != nil {
					w.close()
					return nil, err
				}
				return w, nil
			}
			dir.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errSwapped) {
			return nil, err
		}
	}
	return nil, err
}

// fill copies the source and makes the bytes durable. The source must have
// exactly the bytes it said.
func (w *write) fill(ctx context.Context, src store.Source) error {
	rc, err := src.Open()
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer rc.Close()
	// A source that waits for something must not outlive the context.
	defer context.AfterFunc(ctx, func() { rc.Close() })()
	h := md5.New()
	n, err := io.CopyBuffer(io.MultiWriter(w.f, h), io.LimitReader(ctxReader{ctx, rc}, src.Size()+1), make([]byte, 128<<10))
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	if n != src.Size() {
		return fmt.Errorf("source: changed its length while it was read: %s %d bytes expected", shortOrLong(n, src.Size()), src.Size())
	}
	w.size, w.sum = n, store.MD5(h.Sum(nil))
	if w.sync {
		return w.f.Sync()
	}
	return nil
}

func shortOrLong(n, want int64) string {
	if n < want {
		return fmt.Sprintf("%d of", n)
	}
	return "more than the"
}

// commit moves the temporary file into place under the lock of its key.
func (s *Store) commit(ctx context.Context, base *os.Root, w *write, cond store.Condition) (store.Info, error) {
	l, err := s.lock(ctx, base, w.key, true)
	if err != nil {
		return store.Info{}, s.wrap(w.key, err)
	}
	defer l.release()
	if err := s.demand(base, w.dir, w.key, cond); err != nil {
		return store.Info{}, err
	}
	if fi, err := w.dir.Lstat(w.name); err == nil && !fi.Mode().IsRegular() {
		return store.Info{}, s.wrap(w.key, notAFile(w.name, fi))
	}
	if err := ctx.Err(); err != nil {
		return store.Info{}, fmt.Errorf("%s: %w", w.key, err)
	}
	if err := w.dir.Rename(w.temp, w.name); err != nil {
		return store.Info{}, s.wrap(w.key, err)
	}
	w.temp = ""
	info, err := w.settle(l)
	if err == nil {
		err = s.syncDir(w.dir)
	}
	if err != nil {
		if !cond.Unconditional() {
			err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
		}
		return store.Info{}, s.wrap(w.key, err)
	}
	return info, nil
}

// settle records the object that was just renamed into place. The rename changed
// its ctime, so this cannot be done before.
func (w *write) settle(l *lock) (store.Info, error) {
	fi, err := w.f.Stat()
	if err != nil {
		return store.Info{}, err
	}
	id := identify(fi)
	info := store.Info{Key: w.key, Size: w.size, ETag: uuid.NewString(), MD5: w.sum, HasMD5: true, MTime: fi.ModTime()}
	if err := l.remember(id, info.ETag, w.sum); err != nil {
		// No room for the record, most likely. The object is there, whole, and has the
		// etag of any file without a record.
		l.forget()
		info.ETag = id.etag()
	}
	return info, nil
}

// close ends the write; what was not committed is removed.
func (w *write) close() {
	if w.temp != "" {
		w.dir.Remove(w.temp)
	}
	w.f.Close()
	w.dir.Close()
}

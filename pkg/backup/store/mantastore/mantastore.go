// Package mantastore keeps backup objects in a directory of a Manta account. It
// puts the port [store.Store] on the client of package manta, which does the
// work: verified transfers, retries, conditions, directories made on demand.
package mantastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/manta"
)

// announceUpTo is the content size in bytes up to which the MD5 is sent ahead, so
// that Manta refuses wrong bytes instead of storing them. Larger content is
// compared afterwards, or it would have to be read twice.
const announceUpTo = 1 << 20

// Client is what is needed of a Manta client; *manta.Client has it.
type Client interface {
	Put(ctx context.Context, path string, src manta.Source, o manta.PutOptions) (manta.Info, error)
	Get(ctx context.Context, path string, o manta.GetOptions) (*manta.Object, error)
	Head(ctx context.Context, path string) (manta.Info, error)
	Delete(ctx context.Context, path string, cond manta.Condition) error
	List(ctx context.Context, dir string, o manta.ListOptions) iter.Seq2[manta.Info, error]
	ServerTime() (time.Time, bool)
	URL() string
}

// Store is a [store.Store] on a Manta directory.
type Store struct {
	client Client
	root   string // absolute, no trailing slash
}

var (
	_ store.Store = (*Store)(nil)
	_ Client      = (*manta.Client)(nil)
)

// New returns a store in rootDir, an absolute path such as /bob/stor/images, which
// is made by the first Put.
func New(client Client, rootDir string) (*Store, error) {
	root := strings.TrimRight(rootDir, "/")
	rest, ok := strings.CutPrefix(root, "/")
	if !ok || !strings.Contains(rest, "/") {
		return nil, fmt.Errorf("manta directory %q: must be an absolute path like /account/stor/name", rootDir)
	}
	if err := store.CheckKey(rest); err != nil {
		return nil, fmt.Errorf("manta directory: %w", err)
	}
	return &Store{client: client, root: root}, nil
}

// String returns "/account/stor/name at https://host".
func (s *Store) String() string { return s.root + " at " + s.client.URL() }

// Root returns the Manta directory.
func (s *Store) Root() string { return s.root }

// Path returns the Manta path of a key, for messages.
func (s *Store) Path(key string) string {
	if key == "" {
		return s.root
	}
	return s.root + "/" + key
}

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, src store.Source, cond store.Condition) (store.Info, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Info{}, err
	}
	o := manta.PutOptions{If: condition(cond), Parents: true, SendMD5: src.Size() <= announceUpTo}
	if b, ok := src.(store.Believer); ok {
		if sum, ok := b.Believed(); ok {
			o.Believed = sum[:]
		}
	}
	info, err := s.client.Put(ctx, s.Path(key), src, o)
	if err == nil && info.ETag == "" {
		// Manta names the etag of what it has stored. A success without one is somebody
		// else's answer, a proxy's say.
		kind := store.ErrUnknownOutcome
		if cond.Unconditional() {
			kind = store.ErrUnavailable
		}
		err = &portError{fmt.Errorf("%s: put: answered without an etag: nothing says that it was stored", s.Path(key)), []error{kind}}
	}
	if err != nil {
		return store.Info{}, wrap(err, !cond.Unconditional())
	}
	return describe(key, info), nil
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, store.Info, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, store.Info{}, err
	}
	obj, err := s.client.Get(ctx, s.Path(key), manta.GetOptions{})
	if err != nil {
		return nil, store.Info{}, wrap(err, false)
	}
	if obj.Info.IsDir() {
		obj.Close()
		return nil, store.Info{}, fmt.Errorf("%s: %w", s.Path(key), syscall.EISDIR)
	}
	return reader{obj}, describe(key, obj.Info), nil
}

// reader translates the errors of a transfer.
type reader struct{ *manta.Object }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.Object.Read(p)
	if err != nil && err != io.EOF {
		err = wrap(err, false)
	}
	return n, err
}

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context, key string) (store.Info, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Info{}, err
	}
	info, err := s.client.Head(ctx, s.Path(key))
	if err != nil {
		return store.Info{}, wrap(err, false)
	}
	return describe(key, info), nil
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string, cond store.Condition) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := s.client.Delete(ctx, s.Path(key), condition(cond))
	if cond.Unconditional() && errors.Is(err, manta.ErrNotFound) {
		return nil
	}
	return wrap(err, !cond.Unconditional())
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, dir string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		prefix := ""
		if dir != "" {
			prefix = dir + "/"
			if err := store.CheckKey(dir); err != nil {
				yield(store.Info{}, err)
				return
			}
		}
		for info, err := range s.client.List(ctx, s.Path(dir), manta.ListOptions{}) {
			switch {
			case errors.Is(err, manta.ErrNotFound):
				return
			case err != nil:
				yield(store.Info{}, wrap(err, false))
				return
			}
			key := prefix + info.Name
			if err := checkName(key, info.Name); err != nil {
				yield(store.Info{}, fmt.Errorf("%s: in the listing: %w", s.Path(dir), err))
				return
			}
			if !yield(describe(key, info), nil) {
				return
			}
		}
	}
}

// checkName refuses an entry of a listing that is not one usable name.
func checkName(key, name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("%w: %q", store.ErrBadKey, name)
	}
	return store.CheckKey(key)
}

// Now implements [store.Store].
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if t, ok := s.client.ServerTime(); ok {
		return t, nil
	}
	if _, err := s.client.Head(ctx, s.root); err != nil && !errors.Is(err, manta.ErrNotFound) {
		return time.Time{}, wrap(err, false)
	}
	t, ok := s.client.ServerTime()
	if !ok {
		return time.Time{}, fmt.Errorf("%s: its answers carry no date", s)
	}
	return t, nil
}

func condition(c store.Condition) manta.Condition {
	switch {
	case c.Unconditional():
		return manta.Condition{}
	case c.Absent():
		return manta.Absent()
	}
	return manta.Match(c.ETag())
}

func describe(key string, i manta.Info) store.Info {
	if i.IsDir() {
		return store.Info{Key: key, Dir: true, MTime: i.MTime}
	}
	info := store.Info{Key: key, Size: i.Size, ETag: i.ETag, MTime: i.MTime}
	if len(i.MD5) == len(info.MD5) {
		info.MD5, info.HasMD5 = store.MD5(i.MD5), true
	}
	return info
}

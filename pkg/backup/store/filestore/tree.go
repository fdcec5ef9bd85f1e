package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

// errForeign marks a name that is there but is nothing this package handles.
var errForeign = errors.New("not a plain file or directory, left alone")

// errSwapped says that what was looked at is not what was then opened.
var errSwapped = errors.New("replaced while it was opened")

// open opens the top. Without create an absent one is [fs.ErrNotExist].
func (s *Store) open(create bool) (*os.Root, error) {
	base, err := os.OpenRoot(s.dir)
	if err == nil {
		return base, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, s.wrap(s.dir, err)
	}
	parent := filepath.Dir(s.dir)
	if _, err := os.Stat(parent); err != nil {
		return nil, fmt.Errorf("%s: %w: %v (is it mounted?)", s.dir, store.ErrUnavailable, err)
	}
	if !create {
		return nil, err
	}
	if err := os.Mkdir(s.dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, s.wrap(s.dir, err)
	}
	if s.sync {
		if err := durable.SyncDir(parent); err != nil {
			return nil, s.wrap(s.dir, err)
		}
	}
	if base, err = os.OpenRoot(s.dir); err != nil {
		return nil, s.wrap(s.dir, err)
	}
	return base, nil
}

// walk opens the directory at key below the top ("" is the top itself), one
// component at a time and through no symbolic link. The caller closes it.
func (s *Store) walk(base *os.Root, key string, create bool) (*os.Root, error) {
	cur, err := base.OpenRoot(".")
	if err != nil || key == "" {
		return cur, err
	}
	at := ""
	for c := range strings.SplitSeq(key, "/") {
		next, err := s.sub(cur, at, c, create)
		cur.Close()
		if err != nil {
			return nil, err
		}
		cur, at = next, at+c+"/"
	}
	return cur, nil
}

// sub opens the directory name in parent. With create it is made where missing,
// and durable when sub returns. at is the place of parent below the top.
func (s *Store) sub(parent *os.Root, at, name string, create bool) (*os.Root, error) {
	seen, err := parent.Lstat(name)
	if err == nil && create && s.isMaking(at+name) {
		// Another goroutine made it and may not have synced it yet. An object
		// acknowledged below it must not vanish with it.
		err = s.syncDir(parent)
	}
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = s.mkdir(parent, at, name); err == nil {
			seen, err = parent.Lstat(name)
		}
	}
	if err != nil {
		return nil, err
	}
	if !seen.IsDir() {
		if !seen.Mode().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: at + name, Err: errForeign}
		}
		return nil, &fs.PathError{Op: "open", Path: at + name, Err: syscall.ENOTDIR}
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if got, err := dir.Stat("."); err != nil || !os.SameFile(seen, got) {
		dir.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: at + name, Err: errSwapped})
	}
	return dir, nil
}

// mkdir makes name in parent and syncs parent. It may be there already.
func (s *Store) mkdir(parent *os.Root, at, name string) error {
	s.mu.Lock()
	s.making[at+name]++
	s.mu.Unlock()
	err := parent.Mkdir(name, 0o777)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = s.syncDir(parent)
	}
	s.mu.Lock()
	if s.making[at+name]--; s.making[at+name] == 0 {
		delete(s.making, at+name)
	}
	s.mu.Unlock()
	return err
}

func (s *Store) isMaking(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.making[path] > 0
}

// syncDir makes the entries of dir durable.
func (s *Store) syncDir(dir *os.Root) error {
	if !s.sync {
		return nil
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// openFile opens a plain file, never through a symbolic link and
// never waiting for the other end of a pipe.
func openFile(dir *os.Root, name string, flag int) (*os.File, fs.FileInfo, error) {
	seen, err := dir.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, nil, notAFile(name, seen)
	}
	f, err := dir.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	got, err := f.Stat()
	if err != nil || !os.SameFile(seen, got) {
		f.Close()
		return nil, nil, errors.Join(err, &fs.PathError{Op: "open", Path: name, Err: errSwapped})
	}
	return f, got, nil
}

func notAFile(name string, fi fs.FileInfo) error {
	if fi.IsDir() {
		return &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &fs.PathError{Op: "open", Path: name, Err: errForeign}
}

// wrap names the object and sorts the cause into the errors of the port.
func (s *Store) wrap(key string, err error) error {
	cause := err
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		cause = pe.Err
	case errors.As(err, &le):
		cause = le.Err
	}
	switch {
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%s: %w", key, err)
	case errors.Is(cause, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", key, store.ErrNotFound)
	case unreachable(cause):
		return fmt.Errorf("%s: %w: %w", key, store.ErrUnavailable, cause)
	}
	return fmt.Errorf("%s: %w", key, cause)
}

// unreachable says whether the file system itself refused or is gone.
func unreachable(err error) bool {
	for _, e := range []error{fs.ErrPermission, syscall.ESTALE, syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.EHOSTDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

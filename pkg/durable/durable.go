// Package durable writes files that survive a crash at any instruction.
//
// A file is replaced by writing a temporary file in the same directory, syncing
// it, renaming it over the old one and syncing the directory. A tree of many
// files is written plainly and made durable once with [SyncTree] before
// anything refers to it. A [Lock] keeps a second process out.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// TempPrefix begins the name of every temporary file this package makes. A
// leftover with this prefix is garbage from a crash.
const TempPrefix = ".tritonops-tmp-"

// WriteFile replaces path with data. The parent directory must exist.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write replaces path with what fill writes. When fill or any step fails, the
// old file is untouched and the temporary one removed.
func Write(path string, perm fs.FileMode, fill func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Rename moves oldpath to newpath and syncs both directories.
func Rename(oldpath, newpath string) error {
	if err := os.Rename(oldpath, newpath); err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(newpath)); err != nil {
		return err
	}
	if filepath.Dir(oldpath) == filepath.Dir(newpath) {
		return nil
	}
	return SyncDir(filepath.Dir(oldpath))
}

// Remove deletes a file, if it is there, and syncs its directory.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes path and its parents and syncs every directory that got a new
// entry.
func MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	var made []string
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == filepath.Dir(p) {
			break
		}
		made = append(made, filepath.Dir(p))
	}
	if err := os.MkdirAll(path, perm); err != nil {
		return err
	}
	for _, p := range made {
		if err := SyncDir(p); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return fmt.Errorf("%s: sync: %w", dir, err)
	}
	return d.Close()
}

// Append adds one line to a file that was opened with O_APPEND and syncs it
// before it returns. The line must not contain a newline; one is added.
func Append(f *os.File, line []byte) error {
	if _, err := f.Write(append(line[:len(line):len(line)], '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// RemoveTemps deletes the temporary files a crash left directly in dir.
func RemoveTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// syncEach syncs every file and directory below root with a few at a time: file
// systems gather concurrent syncs into one commit.
func syncEach(root string) error {
	paths := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := range paths {
				if err := SyncDir(p); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
				}
			}
		})
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.Type().IsRegular() || d.IsDir()) {
			paths <- p
		}
		return err
	})
	close(paths)
	wg.Wait()
	return errors.Join(err, first)
}

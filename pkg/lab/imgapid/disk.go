package imgapid

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var errDead = errors.New("the process has died")

// nodeError words a failed system call as the upstream runtime does.
func nodeError(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	op, path := "open", ""
	var pe *fs.PathError
	if errors.As(err, &pe) {
		op, path = pe.Op, pe.Path
	}
	if errors.Is(errno, syscall.ENOSPC) {
		path = ""
	}
	s := fmt.Sprintf("%s: %s, %s", errnoName(errno), strings.ToLower(errno.Error()), op)
	if path != "" {
		s += " '" + path + "'"
	}
	return s
}

func errnoName(e syscall.Errno) string {
	for _, n := range []struct {
		e    syscall.Errno
		name string
	}{{syscall.ENOENT, "ENOENT"}, {syscall.EACCES, "EACCES"}, {syscall.EROFS, "EROFS"}, {syscall.ENOSPC, "ENOSPC"},
		{syscall.EISDIR, "EISDIR"}, {syscall.ENOTDIR, "ENOTDIR"}, {syscall.EEXIST, "EEXIST"}, {syscall.EPERM, "EPERM"},
		{syscall.EIO, "EIO"}, {syscall.ENOTEMPTY, "ENOTEMPTY"}, {syscall.ELOOP, "ELOOP"}, {syscall.ENAMETOOLONG, "ENAMETOOLONG"}} {
		if n.e == e {
			return n.name
		}
	}
	return fmt.Sprintf("E%d", int(e))
}

// disk is the data directory as one request meets it, faults included.
type disk struct {
	p        *Process
	full     bool          // every write fails with ENOSPC
	pause    time.Duration // the rewrite of a manifest rests half way
	crashMid bool          // the process dies half way through the rewrite of a manifest
}

func (d disk) room(path string) error {
	if d.p.isDead() {
		return errDead
	}
	if d.full {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	return nil
}

// writePlain is the upstream way to write a file: truncated and rewritten in
// place, no temporary file, no fsync. between is called half way.
func (d disk) writePlain(path string, data []byte, between func()) error {
	if d.p.isDead() {
		return errDead
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.room(path); err != nil {
		return err
	}
	if between != nil {
		half := len(data) / 2
		if _, err := f.Write(data[:half]); err != nil {
			return err
		}
		between()
		if d.p.isDead() {
			return errDead
		}
		data = data[half:]
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Close()
}

func (d disk) writeManifest(raw *object) error {
	var between func()
	if d.pause > 0 || d.crashMid {
		between = func() {
			d.p.rest(d.pause)
			if d.crashMid {
				d.p.Crash("fault " + string(CrashMidWrite))
			}
		}
	}
	return d.writePlain(d.p.at.manifest(raw.str("uuid")), indented(raw), between)
}

func (d disk) removeManifest(uuid string) error {
	if d.p.isDead() {
		return errDead
	}
	err := os.Remove(d.p.at.manifest(uuid))
	var pe *fs.PathError
	if errors.As(err, &pe) {
		pe.Op = "unlink"
	}
	return err
}

// writeArchive unlinks the archived copy and writes it anew.
func (d disk) writeArchive(raw *object) error {
	path := d.p.at.archived(raw.str("uuid"))
	if d.p.isDead() {
		return errDead
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return d.writePlain(path, indented(view{mode: d.p.set.Mode, channels: true}.public(raw)), nil)
}

// storeUpload copies a body to name in the image's directory.
func (d disk) storeUpload(uuid, name string, body io.Reader) error {
	path := d.p.at.file(uuid, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if derr := d.room(path); derr != nil {
				return derr
			}
			if _, werr := f.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err != nil {
			return &abortedError{err}
		}
	}
}

// An abortedError is a client that went away in the middle of a body: nobody is
// answered, and what was written stays.
type abortedError struct{ err error }

func (e *abortedError) Error() string { return "aborted: " + e.err.Error() }
func (e *abortedError) Unwrap() error { return e.err }

// moveUpload makes an upload the image's file.
func (d disk) moveUpload(uuid, from, to string) error {
	if d.p.isDead() {
		return errDead
	}
	return os.Rename(d.p.at.file(uuid, from), d.p.at.file(uuid, to))
}

// deleteFile removes a file of an image, and the image's directory once it is
// empty. The shard directory stays.
func (d disk) deleteFile(uuid, name string) error {
	if d.p.isDead() {
		return errDead
	}
	path := d.p.at.file(uuid, name)
	if err := os.Remove(path); err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			pe.Op = "unlink"
		}
		return err
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		return err
	}
	return os.Remove(filepath.Dir(path))
}

package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrNotRegular is wrapped by the error for a symbolic link, directory, device,
// socket or pipe where a plain file or directory belongs.
var ErrNotRegular = errors.New("refused")

// ErrChanging is wrapped by the error for a file that was written while it was
// read.
var ErrChanging = errors.New("changed while it was read")

// ManifestFile is one manifest as it lies on disk.
type ManifestFile struct {
	Manifest *Manifest
	Bytes    []byte      // exactly what was read
	Info     os.FileInfo // of the open file, before it was read
}

// ReadManifest reads and parses one manifest once. It wraps ErrTorn for one that
// is half-written, ErrChanging for one that changed under its eyes, ErrNotRegular
// for one that is no plain file, and fs.ErrNotExist. A manifest whose uuid is not
// that of its file name is an error.
func (i *Instance) ReadManifest(ctx context.Context, uuid string) (ManifestFile, error) {
	if !ValidUUID(uuid) {
		return ManifestFile{}, fmt.Errorf("%q: not a UUID", clip(uuid))
	}
	if err := ctx.Err(); err != nil {
		return ManifestFile{}, err
	}
	if err := plainDir(i.ManifestsDir()); err != nil {
		return ManifestFile{}, err
	}
	path := i.ManifestPath(uuid)
	b, info, err := ReadStable(path, MaxManifest)
	if err != nil {
		return ManifestFile{}, err
	}
	m, err := ParseManifest(b)
	if err != nil {
		return ManifestFile{}, fmt.Errorf("%s: %w", path, err)
	}
	if m.UUID != uuid {
		return ManifestFile{}, fmt.Errorf("%s: manifest: uuid is %s, not that of the file name", path, m.UUID)
	}
	return ManifestFile{Manifest: m, Bytes: b, Info: info}, nil
}

// ReadManifestSettled is ReadManifest for a server at work: a manifest that is
// torn or changing is read again, up to tries times with a pause between them. The
// last error is returned.
func (i *Instance) ReadManifestSettled(ctx context.Context, uuid string, tries int, pause time.Duration) (ManifestFile, error) {
	for {
		mf, err := i.ReadManifest(ctx, uuid)
		tries--
		if err == nil || tries <= 0 || !errors.Is(err, ErrTorn) && !errors.Is(err, ErrChanging) {
			return mf, err
		}
		select {
		case <-ctx.Done():
			return mf, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// ReadStable reads a whole plain file of at most limit bytes and makes sure that
// it was not written meanwhile (size, mtime, ctime and length read agree).
func ReadStable(path string, limit int64) ([]byte, os.FileInfo, error) {
	f, before, err := OpenPlain(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if before.Size() > limit {
		return nil, nil, fmt.Errorf("%s: %d bytes, more than the %d allowed here", path, before.Size(), limit)
	}
	b := make([]byte, 0, before.Size()+1)
	for {
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if int64(len(b)) > before.Size() {
			break // it grew; one more byte is proof enough
		}
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if int64(len(b)) != before.Size() || !SameVersion(before, after) {
		return nil, nil, fmt.Errorf("%s: %w", path, ErrChanging)
	}
	return b, before, nil
}

// OpenPlain opens a plain file for reading. A symbolic link, directory or special
// file is an error wrapping ErrNotRegular; a pipe does not block. Only the last
// component is looked at: see [Instance.OpenImageFile] for the directories above.
func OpenPlain(path string) (*os.File, os.FileInfo, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if err := plain(path, fi.Mode()); err != nil {
		return nil, nil, err
	}
	// Between the look and the open it may have become a link or a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			return nil, nil, fmt.Errorf("%s: is a symbolic link: %w", path, ErrNotRegular)
		}
		return nil, nil, err
	}
	if fi, err = f.Stat(); err == nil {
		err = plain(path, fi.Mode())
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// OpenImageFile opens a file of an image ("file0", "icon"). No component below
// the data directory may be a symbolic link.
func (i *Instance) OpenImageFile(uuid, name string) (*os.File, os.FileInfo, error) {
	if err := i.checkImageDirs(uuid, name); err != nil {
		return nil, nil, err
	}
	return OpenPlain(i.FilePath(uuid, name))
}

// StatImageFile describes a file of an image under the rules of OpenImageFile.
func (i *Instance) StatImageFile(uuid, name string) (os.FileInfo, error) {
	if err := i.checkImageDirs(uuid, name); err != nil {
		return nil, err
	}
	path := i.FilePath(uuid, name)
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return fi, plain(path, fi.Mode())
}

func (i *Instance) checkImageDirs(uuid, name string) error {
	if !ValidUUID(uuid) || !fileName(name) {
		return fmt.Errorf("%q of image %q: not the name of an image file", clip(name), clip(uuid))
	}
	dir := i.ImagesDir()
	for _, d := range []string{dir, filepath.Join(dir, uuid[:3]), filepath.Join(dir, uuid[:3], uuid)} {
		if err := plainDir(d); err != nil {
			return err
		}
	}
	return nil
}

// plain refuses everything but a regular file.
func plain(path string, mode fs.FileMode) error {
	if mode.IsRegular() {
		return nil
	}
	return fmt.Errorf("%s: is %s: %w", path, modeName(mode), ErrNotRegular)
}

// plainDir refuses everything but a directory.
func plainDir(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return nil
	}
	return fmt.Errorf("%s: is %s, not a directory: %w", path, modeName(fi.Mode()), ErrNotRegular)
}

func modeName(mode fs.FileMode) string {
	switch t := mode.Type(); {
	case t == 0:
		return "a plain file"
	case t&fs.ModeSymlink != 0:
		return "a symbolic link"
	case t&fs.ModeDir != 0:
		return "a directory"
	case t&fs.ModeNamedPipe != 0:
		return "a pipe"
	case t&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}

// SameVersion says whether two looks at a file saw the same bytes, as far as size,
// mtime, ctime and inode can tell. Two writes within one tick of the file system's
// clock look the same.
func SameVersion(a, b os.FileInfo) bool {
	as, aok := a.Sys().(*syscall.Stat_t)
	bs, bok := b.Sys().(*syscall.Stat_t)
	if aok != bok || aok && (as.Ino != bs.Ino || as.Ctim != bs.Ctim) {
		return false
	}
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// VersionID is a short text that changes when the file does, as far as mtime,
// ctime and inode can tell: "<mtime ns>-<ctime ns>-<inode>".
func VersionID(fi os.FileInfo) string {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d-%d-%d", fi.ModTime().UnixNano(), int64(s.Ctim.Sec)*1e9+int64(s.Ctim.Nsec), s.Ino)
	}
	return fmt.Sprintf("%d", fi.ModTime().UnixNano())
}

// Package filestore keeps backup objects in a plain directory: an off-site disk,
// a network mount, a medium that is carried to an air-gapped site.
//
// # Layout
//
// An object is a plain file at its key, a directory is a directory. Nothing is
// encoded, so the tree can be read, copied and compared with ordinary tools.
// Two kinds of name are ours and are never objects:
//
//   - files beginning with [durable.TempPrefix] are writes under way, or what a
//     crash left of them. Each is locked (flock) by its writer; one that nobody
//     holds is removed when its directory is listed.
//   - the directory .tritonops-meta at the top holds, in 256 subdirectories by
//     the first byte of the SHA-256 of the key, one small JSON file per object
//     and one lock file per subdirectory.
//
// # What is remembered and what is trusted
//
// The JSON file of an object has its etag, a random UUID for every write, and
// its MD5, together with the size, mtime, ctime and inode number the file had.
// It counts only while all four still hold. A file that a person edited,
// replaced or brought in has no valid record: its etag is then derived from the
// four values, so that it differs from every one handed out before, and its MD5
// is computed by reading the file ([Store.Head], [Store.Get]; a listing leaves
// it out). The directory may be deleted at any time; it is never needed to read
// objects. A tree copied with cp or rsync is right too, only hashed again once.
// A file changed by another program keeps its record in one case only: the same
// inode, written in place with the same size within the clock tick (some
// milliseconds) in which this package put it there.
//
// # Concurrency and durability
//
// Conditions hold between processes: the check and the rename happen under the
// lock of the key's subdirectory. Where the file system has no flock, the first
// write fails and says so. A Put that returned is on the disk: the file and its
// directory are synced before, unless [Options].NoSync is set.
//
// Symbolic links below the top and anything else that is neither a file nor a
// directory are never followed: a listing leaves them out, everything else
// refuses them.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
)

// metaDir is the directory of records and locks at the top of a store.
const metaDir = ".tritonops-meta"

// Options changes how a Store works. The zero value is right for real data.
type Options struct {
	// NoSync leaves out every fsync. A crash of the machine may then lose or empty
	// objects that were acknowledged. For tests and for trees made to be thrown away.
	NoSync bool
}

// Store is a [store.Store] on a directory.
type Store struct {
	dir  string
	sync bool

	shards [256]chan struct{} // one token each: keeps goroutines off the lock files

	mu     sync.Mutex // guards what follows
	making map[string]int
}

var _ store.Store = (*Store)(nil)

// New returns a store on dir, an absolute path. The directory itself is made by
// the first Put, its parent must be there: an off-site disk that is not mounted
// is an error ([store.ErrUnavailable]) and not an empty store on the wrong disk.
func New(dir string, o Options) (*Store, error) {
	if err := checkPath(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: filepath.Clean(dir), sync: !o.NoSync, making: map[string]int{}}
	for i := range s.shards {
		s.shards[i] = make(chan struct{}, 1)
	}
	return s, nil
}

// String returns the store as a URL, file:///path.
func (s *Store) String() string { return URL(s.dir) }

// Dir returns the directory.
func (s *Store) Dir() string { return s.dir }

// Now returns the clock of the file system, read off a file made for the purpose
// (on a network mount that may be the server's). A store that does not exist yet
// or cannot be written answers with the local clock: nothing can be pruned there,
// so ages are only shown.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	base, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Now(), nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer base.Close()
	t, err := s.touch(base)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return time.Now(), nil
	}
	if err != nil {
		return time.Time{}, s.wrap("clock of the file system", err)
	}
	return t, nil
}

// touch makes a file, reads its mtime and removes it.
func (s *Store) touch(base *os.Root) (time.Time, error) {
	meta, err := s.sub(base, "", metaDir, true)
	if err != nil {
		return time.Time{}, err
	}
	defer meta.Close()
	if err := sweep(meta); err != nil {
		return time.Time{}, err
	}
	name := durable.TempPrefix + uuid.NewString()
	f, err := meta.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	defer meta.Remove(name)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
}

// check is [store.CheckKey] and refuses the names this package uses itself.
func check(key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	for i, c := range strings.Split(key, "/") {
		if strings.HasPrefix(c, durable.TempPrefix) || (i == 0 && c == metaDir) {
			return fmt.Errorf("%w: %q is reserved in a directory store", store.ErrBadKey, c)
		}
	}
	return nil
}

// checkDir is check for a directory to list, where "" is the top.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	return check(dir)
}

// split cuts a key into its directory ("" at the top) and its name.
func split(key string) (dir, name string) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

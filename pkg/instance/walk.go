package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const manifestExt = ".raw"

// Entry is one manifest on disk.
type Entry struct {
	UUID string
	Path string
	Info os.FileInfo
}

// ImageFile is one file of an image on disk.
type ImageFile struct {
	UUID string
	Name string // "file0", "icon"; "" in an error about the image's whole directory
	Rel  string // relative to the data directory: "images/abc/<uuid>/file0"
	Path string
	Info os.FileInfo
}

// Manifests yields the manifests on disk in byte order of their names. Only the
// names are held in memory, 16 bytes each. What else lies in the directory is left
// to [Instance.Strays].
//
// An error with an Entry whose UUID is set is an [*EntryError]: that manifest is a
// symbolic link or the like, and the walk goes on. Any other error ends the walk;
// an absent directory is one (fs.ErrNotExist). A manifest that vanishes during the
// walk is passed over.
func (i *Instance) Manifests(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		dir := i.ManifestsDir()
		ids, err := manifestIDs(ctx, dir)
		if err != nil {
			yield(Entry{}, fmt.Errorf("manifests: %w", err))
			return
		}
		for _, u := range ids {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			uuid := u.String()
			e := Entry{UUID: uuid, Path: filepath.Join(dir, uuid+manifestExt)}
			if e.Info, err = os.Lstat(e.Path); err == nil && !e.Info.Mode().IsRegular() {
				err = &EntryError{Rel: "manifests/" + uuid + manifestExt, Kind: modeName(e.Info.Mode())}
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !yield(e, err) || err != nil && !errors.Is(err, ErrNotRegular) {
				return
			}
		}
	}
}

// UUIDs returns the UUIDs of the manifests on disk in order, without looking at
// the files: for completion and counting.
func (i *Instance) UUIDs(ctx context.Context) ([]string, error) {
	ids, err := manifestIDs(ctx, i.ManifestsDir())
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	out := make([]string, len(ids))
	for n, u := range ids {
		out[n] = u.String()
	}
	return out, nil
}

func manifestIDs(ctx context.Context, dir string) ([]id, error) {
	var ids []id
	err := eachName(ctx, dir, func(name string) {
		if u, ok := parseID(strings.TrimSuffix(name, manifestExt)); ok && strings.HasSuffix(name, manifestExt) {
			ids = append(ids, u)
		}
	})
	slices.SortFunc(ids, func(a, b id) int { return bytes.Compare(a[:], b[:]) })
	return ids, err
}

// manifestName returns the UUID of "<uuid>.raw".
func manifestName(name string) (string, bool) {
	uuid, ok := strings.CutSuffix(name, manifestExt)
	if !ok || !ValidUUID(uuid) {
		return "", false
	}
	return uuid, true
}

// ImageFiles yields the files and icons of images/ in byte order of their paths,
// one directory in memory at a time. Leftover uploads and files in the wrong place
// are left to [Instance.Strays].
//
// An error with an ImageFile whose UUID is set is an [*EntryError]: that file, or
// with Name "" all files of that image, are behind a symbolic link or the like, and
// the walk goes on. Any other error ends the walk; an absent images/ is one
// (fs.ErrNotExist).
func (i *Instance) ImageFiles(ctx context.Context) iter.Seq2[ImageFile, error] {
	return func(yield func(ImageFile, error) bool) {
		shards, err := sortedNames(ctx, i.ImagesDir())
		if err != nil {
			yield(ImageFile{}, fmt.Errorf("images: %w", err))
			return
		}
		for _, s := range shards {
			if shardName(s) && !i.walkShard(ctx, s, yield) {
				return
			}
		}
	}
}

// walkShard returns false when the walk is over.
func (i *Instance) walkShard(ctx context.Context, shard string, yield func(ImageFile, error) bool) bool {
	dir := filepath.Join(i.ImagesDir(), shard)
	fi, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true
	case err != nil:
		yield(ImageFile{}, err)
		return false
	case fi.Mode()&fs.ModeSymlink != 0: // hides every image of the shard
		yield(ImageFile{}, plainDir(dir))
		return false
	case !fi.IsDir():
		return true
	}
	uuids, err := sortedNames(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		yield(ImageFile{}, err)
		return false
	}
	for _, uuid := range uuids {
		if ValidUUID(uuid) && uuid[:3] == shard && !i.walkImage(ctx, uuid, yield) {
			return false
		}
	}
	return true
}

func (i *Instance) walkImage(ctx context.Context, uuid string, yield func(ImageFile, error) bool) bool {
	rel := strings.TrimSuffix(RelFile(uuid, ""), "/")
	dir := filepath.Join(i.DataDir(), filepath.FromSlash(rel))
	names, err := sortedNames(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true
	case errors.Is(err, ErrNotRegular):
		fi, lerr := os.Lstat(dir)
		if lerr != nil || fi.Mode().IsRegular() {
			return true // a plain file there is a stray, it hides nothing
		}
		return yield(ImageFile{UUID: uuid, Rel: rel, Path: dir}, &EntryError{Rel: rel, Kind: modeName(fi.Mode())})
	case err != nil:
		yield(ImageFile{}, err)
		return false
	}
	for _, name := range names {
		if !fileName(name) {
			continue
		}
		f := ImageFile{UUID: uuid, Name: name, Rel: RelFile(uuid, name), Path: filepath.Join(dir, name)}
		if f.Info, err = os.Lstat(f.Path); err == nil && !f.Info.Mode().IsRegular() {
			err = &EntryError{Rel: f.Rel, Kind: modeName(f.Info.Mode())}
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if !yield(f, err) || err != nil && !errors.Is(err, ErrNotRegular) {
			return false
		}
	}
	return true
}

// shardName says whether s is three hexadecimal digits.
func shardName(s string) bool {
	return len(s) == 3 && strings.Trim(s, "0123456789abcdef") == ""
}

// fileName says whether s is "icon" or "file" with an index without leading zero.
func fileName(s string) bool {
	if s == "icon" {
		return true
	}
	n, ok := strings.CutPrefix(s, "file")
	return ok && len(n) > 0 && len(n) <= 3 && strings.Trim(n, "0123456789") == "" && (n == "0" || n[0] != '0')
}

// Leftovers returns the names of the leftover uploads that lie with an image:
// "file0.<request id>".
func (i *Instance) Leftovers(ctx context.Context, uuid string) ([]string, error) {
	if err := i.checkImageDirs(uuid, "file0"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	names, err := sortedNames(ctx, filepath.Dir(i.FilePath(uuid, "file0")))
	return slices.DeleteFunc(names, func(n string) bool { return !uploadName.MatchString(n) }), err
}

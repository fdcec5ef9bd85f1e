package filestore

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// identity is what tells one state of a file from another.
type identity struct {
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime_ns"`
	CTime int64  `json:"ctime_ns"`
	Inode uint64 `json:"inode"`
}

func identify(fi fs.FileInfo) identity {
	id := identity{Size: fi.Size(), MTime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		id.CTime, id.Inode = ctime(st), st.Ino
	}
	return id
}

// etag is the etag of a file that has no valid record.
func (id identity) etag() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %d", id.Size, id.MTime, id.CTime, id.Inode))
	return "file-" + hex.EncodeToString(sum[:16])
}

// settled says whether the file was left alone for long enough that another
// change would show in its times, whatever their resolution.
func (id identity) settled() bool {
	last := time.Unix(0, max(id.MTime, id.CTime))
	return time.Since(last).Abs() > 2*time.Second
}

// record is what is remembered about one object. It is a cache: it is not
// synced, and a damaged or stale one reads as none.
type record struct {
	Version  int      `json:"v"`
	Key      string   `json:"key"`
	Identity identity `json:"identity"`
	ETag     string   `json:"etag"`
	MD5      string   `json:"md5"`
}

const (
	recordVersion = 1
	maxRecord     = 16 << 10
)

// place returns where the record of key lies: its shard and its name there.
func place(key string) (shard byte, name string) {
	sum := sha256.Sum256([]byte(key))
	return sum[0], hex.EncodeToString(sum[1:])
}

func shardName(i byte) string { return hex.EncodeToString([]byte{i}) }

// recall returns the record of key if it still describes a file with this
// identity.
func recall(base *os.Root, key string, id identity) (record, store.MD5, bool) {
	shard, name := place(key)
	f, err := base.OpenFile(metaDir+"/"+shardName(shard)+"/"+name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return record{}, store.MD5{}, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return record{}, store.MD5{}, false
	}
	return decodeRecord(b, key, id)
}

// decodeRecord accepts a record only if it is whole and about this file.
func decodeRecord(b []byte, key string, id identity) (r record, sum store.MD5, ok bool) {
	if json.Unmarshal(b, &r) != nil || r.Version != recordVersion || r.Key != key || r.Identity != id || r.ETag == "" {
		return record{}, sum, false
	}
	raw, err := hex.DecodeString(r.MD5)
	if err != nil || len(raw) != len(sum) {
		return record{}, sum, false
	}
	return r, store.MD5(raw), true
}

// remember replaces the record of the lock's key. There is no need for a
// temporary file: a reader that meets half a record takes it for none and waits
// for the lock. Making the file anew keeps hard links from being written through.
func (l *lock) remember(id identity, etag string, sum store.MD5) error {
	b, err := json.Marshal(record{Version: recordVersion, Key: l.key, Identity: id, ETag: etag, MD5: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	l.forget()
	f, err := l.shard.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Close())
}

// forget removes the record of the lock's key. A leftover would be stale, so
// this need not succeed.
func (l *lock) forget() { l.shard.Remove(l.name) }

// describe returns the Info of the name in dir with the identity it had. Without
// a valid record the MD5 is missing.
func describe(base, dir *os.Root, key string) (store.Info, identity, error) {
	_, name := split(key)
	fi, err := dir.Lstat(name)
	if err != nil {
		return store.Info{}, identity{}, err
	}
	info := store.Info{Key: key, MTime: fi.ModTime()}
	switch {
	case fi.IsDir():
		info.Dir = true
		return info, identity{}, nil
	case !fi.Mode().IsRegular():
		return store.Info{}, identity{}, notAFile(name, fi)
	}
	id := identify(fi)
	info.Size, info.ETag = id.Size, id.etag()
	if r, sum, ok := recall(base, key, id); ok {
		info.ETag, info.MD5, info.HasMD5 = r.ETag, sum, true
	}
	return info, id, nil
}

// settle is describe, but when there is no valid record it looks again under the
// lock: a writer of ours may be between its rename and its record.
func (s *Store) settle(ctx context.Context, base, dir *os.Root, key string) (store.Info, identity, error) {
	info, id, err := describe(base, dir, key)
	if err != nil || info.Dir || info.HasMD5 {
		return info, id, err
	}
	l, err := s.lock(ctx, base, key, false)
	switch {
	case err == nil:
		defer l.release()
		return describe(base, dir, key)
	case ctx.Err() != nil:
		return store.Info{}, identity{}, ctx.Err()
	}
	return info, id, nil // never locked by anyone, or a read-only medium: nothing to wait for
}

// adopt computes the MD5 of a file that has no valid record, and remembers it.
func (s *Store) adopt(ctx context.Context, base, dir *os.Root, key string) (store.Info, identity, error) {
	_, name := split(key)
	f, _, err := openFile(dir, name, os.O_RDONLY)
	if err != nil {
		return store.Info{}, identity{}, err
	}
	defer f.Close()
	for range 3 {
		fi, err := f.Stat()
		if err != nil {
			return store.Info{}, identity{}, err
		}
		id := identify(fi)
		sum, err := sumFile(ctx, f)
		if err != nil {
			return store.Info{}, identity{}, err
		}
		if after, err := f.Stat(); err != nil || identify(after) != id {
			continue
		}
		if id.settled() {
			s.keep(ctx, base, dir, key, id, sum)
		}
		return store.Info{Key: key, Size: id.Size, ETag: id.etag(), MD5: sum, HasMD5: true, MTime: fi.ModTime()}, id, nil
	}
	return store.Info{}, identity{}, errors.New("changes while it is read")
}

// keep remembers a computed MD5 if the file is still the one it was computed
// from. On a medium that cannot be written it is computed again the next time.
func (s *Store) keep(ctx context.Context, base, dir *os.Root, key string, id identity, sum store.MD5) {
	l, err := s.lock(ctx, base, key, true)
	if err != nil {
		return
	}
	defer l.release()
	if _, now, err := describe(base, dir, key); err == nil && now == id {
		_ = l.remember(id, id.etag(), sum)
	}
}

// sumFile reads f from its start.
func sumFile(ctx context.Context, f *os.File) (store.MD5, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return store.MD5{}, err
	}
	h := md5.New()
	if _, err := io.CopyBuffer(h, ctxReader{ctx, f}, make([]byte, 128<<10)); err != nil {
		return store.MD5{}, err
	}
	return store.MD5(h.Sum(nil)), nil
}

// ctxReader stops reading when ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

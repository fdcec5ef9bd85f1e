package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// lockFile is the name of the lock in each subdirectory of records. Records are
// named by 62 hex digits, so it can be none of them.
const lockFile = "lock"

// lock is held on the subdirectory of one key's record.
type lock struct {
	key   string
	name  string // of the record
	shard *os.Root
	file  *os.File
	token chan struct{}
}

// lock waits for the lock that guards key. Goroutines queue on a channel,
// processes poll the kernel's lock. Without create nothing is written, and a
// lock that was never taken before is [fs.ErrNotExist].
func (s *Store) lock(ctx context.Context, base *os.Root, key string, create bool) (*lock, error) {
	shard, name := place(key)
	token := s.shards[shard]
	select {
	case token <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l := &lock{key: key, name: name, token: token}
	if err := l.take(ctx, s, base, shard, create); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

func (l *lock) take(ctx context.Context, s *Store, base *os.Root, shard byte, create bool) (err error) {
	if l.shard, err = s.walk(base, metaDir+"/"+shardName(shard), create); err != nil {
		return err
	}
	if !create {
		if l.file, _, err = openFile(l.shard, lockFile, os.O_RDONLY); err != nil {
			return err
		}
		return flock(ctx, l.file)
	}
	// Opened for writing, which network file systems want for an exclusive lock.
	l.file, _, err = openFile(l.shard, lockFile, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := l.shard.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil {
			f.Close()
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if l.file, _, err = openFile(l.shard, lockFile, os.O_RDWR); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return flock(ctx, l.file)
}

// flock polls for an exclusive lock: every millisecond at first, then up to 20
// times a second.
func flock(ctx context.Context, f *os.File) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock of the store: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// release gives up what is held.
func (l *lock) release() {
	if l.file != nil {
		l.file.Close()
	}
	if l.shard != nil {
		l.shard.Close()
	}
	<-l.token
}

package mantad

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
)

// store is the namespace: names to entries, entries to bodies, all on disk.
type store struct {
	mu    sync.RWMutex
	dirs  map[string]*dirIndex // by path; a directory without entries has none
	count int
	log   *metaLog
	blobs *blobs
}

// errConflict says that the row changed since it was read.
var errConflict = errors.New("changed meanwhile")

func openStore(dir string) (*store, error) {
	b, err := newBlobs(dir)
	if err != nil {
		return nil, err
	}
	s := &store{dirs: map[string]*dirIndex{}, blobs: b}
	ctypes := map[string]string{}
	s.log, err = openLog(filepath.Join(dir, "meta.log"), func(r record) { s.apply(r, ctypes) })
	if err != nil {
		return nil, err
	}
	live, files := map[uint32]int{}, map[[16]byte]bool{}
	s.each(func(_ string, e *entry) error {
		switch {
		case e.dir || e.size == 0:
		case e.pack == 0:
			files[e.id] = true
		default:
			live[e.pack]++
		}
		return nil
	})
	if err := b.load(live, files); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.log.recs > 2*s.count+1000 {
		if err := s.log.rewrite(s.each); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// apply replays one change.
func (s *store) apply(r record, ctypes map[string]string) {
	dir, name := splitPath(string(r.key))
	if r.op == opDelete {
		s.unlink(dir, name)
		return
	}
	e := r.e
	e.name = strings.Clone(name) // not the whole key
	ct, ok := ctypes[string(r.ctype)]
	if !ok {
		ct = string(r.ctype)
		if len(ctypes) < 10000 {
			ctypes[ct] = ct
		}
	}
	e.ctype = ct
	s.link(dir, &e)
}

func (s *store) link(dir string, e *entry) *entry {
	d := s.dirs[dir]
	if d == nil {
		d = &dirIndex{}
		s.dirs[strings.Clone(dir)] = d
	}
	old := d.set(e)
	if old == nil {
		s.count++
	}
	return old
}

func (s *store) unlink(dir, name string) *entry {
	d := s.dirs[dir]
	if d == nil {
		return nil
	}
	old := d.del(name)
	if old != nil {
		s.count--
	}
	if d.n == 0 {
		delete(s.dirs, dir)
	}
	return old
}

// each yields every entry with its key. The caller holds the lock.
func (s *store) each(yield func(key string, e *entry) error) error {
	for dir, d := range s.dirs {
		var err error
		d.ascend("", func(e *entry) bool {
			err = yield(dir+"/"+e.name, e)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// get returns the entry at a key, or nil.
func (s *store) get(key string) *entry {
	dir, name := splitPath(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.dirs[dir]; d != nil {
		return d.get(name)
	}
	return nil
}

// size returns the number of entries in a directory.
func (s *store) size(dir string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.dirs[dir]; d != nil {
		return d.n
	}
	return 0
}

// cas makes a change conditional: the row must still be the one that was read.
type cas struct{ was *entry }

func (c *cas) holds(now *entry) bool { return c == nil || c.was == now }

// put makes e the entry at key and gives up the body it replaces.
func (s *store) put(key string, e *entry, c *cas) error {
	dir, name := splitPath(key)
	e.name = strings.Clone(name)
	s.mu.Lock()
	var now *entry
	if d := s.dirs[dir]; d != nil {
		now = d.get(name)
	}
	if !c.holds(now) {
		s.mu.Unlock()
		return errConflict
	}
	if err := s.log.add(key, e); err != nil {
		s.mu.Unlock()
		return err
	}
	s.link(dir, e)
	s.mu.Unlock()
	return s.discard(now, e)
}

// remove deletes the entry at key and says whether there was one.
func (s *store) remove(key string, c *cas) (bool, error) {
	dir, name := splitPath(key)
	s.mu.Lock()
	var now *entry
	if d := s.dirs[dir]; d != nil {
		now = d.get(name)
	}
	if !c.holds(now) {
		s.mu.Unlock()
		return false, errConflict
	}
	if now == nil {
		s.mu.Unlock()
		return false, nil
	}
	if err := s.log.add(key, nil); err != nil {
		s.mu.Unlock()
		return false, err
	}
	s.unlink(dir, name)
	s.mu.Unlock()
	return true, s.discard(now, nil)
}

// discard gives up the body of an entry that was replaced, unless its successor
// has the same one (a change of metadata).
func (s *store) discard(old, next *entry) error {
	if old == nil || old.dir || old.size == 0 || next != nil && next.id == old.id {
		return nil
	}
	o := body{pack: old.pack}
	if old.pack == 0 {
		o.file = s.blobs.filePath(old.id)
	}
	return s.blobs.drop(o)
}

// open returns the body of an entry.
func (s *store) open(e *entry) (io.ReaderAt, io.Closer, error) { return s.blobs.open(e) }

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.log.f.Close(), s.blobs.close())
}

package manta

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// fixedDepth is the depth of the directories that always exist, "/account/stor".
const fixedDepth = 2

// dirCache remembers directories that exist, so that a thousand uploads into one
// new directory make it once and ask never.
//
// Its clock counts changes. A write that began before a directory was made proves
// nothing by finding it missing; one that began after it does.
type dirCache struct {
	mu      sync.Mutex
	tick    uint64
	seen    map[string]uint64 // directory -> tick when it became known
	flights map[string]*flight
}

// flight is one mkdir under way that others wait for.
type flight struct {
	done chan struct{}
	err  error
}

// maxKnown bounds the cache; a client that writes into more directories than this
// merely asks again.
const maxKnown = 1 << 17

func newDirCache() *dirCache {
	return &dirCache{seen: make(map[string]uint64), flights: make(map[string]*flight)}
}

func depth(path string) int { return strings.Count(path, "/") }

func (d *dirCache) now() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tick
}

// known says whether path surely existed a moment ago.
func (d *dirCache) known(path string) bool {
	if depth(path) <= fixedDepth {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.seen[path]
	return ok
}

// add records that path exists.
func (d *dirCache) add(path string) {
	if depth(path) <= fixedDepth {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.seen[path]; ok {
		return
	}
	if len(d.seen) >= maxKnown {
		clear(d.seen)
	}
	d.tick++
	d.seen[path] = d.tick
}

// missing records that a write begun at tick began found no directory path. If it
// was known then, its parents may be gone too; what became known since then stays.
func (d *dirCache) missing(path string, began uint64) {
	d.mu.Lock()
	at, ok := d.seen[path]
	d.mu.Unlock()
	if ok && at <= began {
		d.distrust(path, began)
	}
}

// distrust drops path and its parents as far as they were known at tick began.
func (d *dirCache) distrust(path string, began uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := path; depth(p) > fixedDepth; p = parent(p) {
		if at, ok := d.seen[p]; ok && at <= began {
			delete(d.seen, p)
		}
	}
}

// forget drops path and everything below it.
func (d *dirCache) forget(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.seen[path]; !ok {
		return // an object, or never seen: nothing below is known either
	}
	for p := range d.seen {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(d.seen, p)
		}
	}
}

// once runs f for path unless it is being run: then its result is waited for and
// taken over, except that a runner that was cancelled is replaced.
func (d *dirCache) once(ctx context.Context, path string, f func() error) error {
	for {
		d.mu.Lock()
		fl, running := d.flights[path]
		if !running {
			fl = &flight{done: make(chan struct{})}
			d.flights[path] = fl
			d.mu.Unlock()
			fl.err = f()
			d.mu.Lock()
			delete(d.flights, path)
			d.mu.Unlock()
			close(fl.done)
			return fl.err
		}
		d.mu.Unlock()
		select {
		case <-fl.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(fl.err, context.Canceled) && !errors.Is(fl.err, context.DeadlineExceeded) {
			return fl.err
		}
	}
}

package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func concurrencyTests() group {
	return group{
		"thirty-two writers do not disturb each other":       manyWriters,
		"readers of a key that is rewritten see whole bytes": wholeReads,
		"writers and deleters of one key leave a whole one":  writeDelete,
	}
}

func manyWriters(t *testing.T, e *env) {
	const writers, each = 32, 8
	content := func(w, i int) string { return pattern(1000 + w*each + i) }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				// The same directory, a directory of its own, and deep common parents.
				key := []string{fmt.Sprintf("same/%d-%d", w, i), fmt.Sprintf("own/%d/%d", w, i), fmt.Sprintf("deep/a/%d/b/%d", i, w)}[i%3]
				if _, err := e.s.Put(e.ctx, key, store.Bytes(content(w, i)), store.Condition{}); err != nil {
					t.Errorf("put %s: %v", key, err)
				}
				if b, _, err := store.Read(e.ctx, e.s, key, 1<<20); err != nil || string(b) != content(w, i) {
					t.Errorf("%s reads back %d bytes, %v", key, len(b), err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(e.list(t, "same")); n != writers*3 {
		t.Errorf("%d in the common directory", n)
	}
	if n := len(e.list(t, "own")); n != writers {
		t.Errorf("%d directories", n)
	}
}

func wholeReads(t *testing.T, e *env) {
	versions := []string{strings.Repeat("a", 300<<10), strings.Repeat("b", 100<<10), "c"}
	e.put(t, "d/x", versions[0])
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := e.s.Put(e.ctx, "d/x", store.Bytes(versions[i%3]), store.Condition{}); err != nil {
				t.Errorf("put: %v", err)
				return
			}
		}
	})
	for range 4 {
		readers.Go(func() {
			for range 25 {
				b, info, err := store.Read(e.ctx, e.s, "d/x", 1<<20)
				if err != nil {
					t.Errorf("read: %v", err)
					continue
				}
				if len(b) == 0 || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) || int64(len(b)) != info.Size {
					t.Errorf("read %d bytes of two versions, or of the wrong size: %+v", len(b), info)
				}
				if _, err := e.s.Head(e.ctx, "d/x"); err != nil {
					t.Errorf("head: %v", err)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
}

func writeDelete(t *testing.T, e *env) {
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 10 {
				if w%3 == 2 {
					if err := e.s.Delete(e.ctx, "d/x", store.Condition{}); err != nil {
						t.Errorf("delete: %v", err)
					}
				} else if _, err := e.s.Put(e.ctx, "d/x", store.Bytes(pattern(w*1000+i)), store.Condition{}); err != nil {
					t.Errorf("put: %v", err)
				}
				b, info, err := store.Read(e.ctx, e.s, "d/x", 1<<20)
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil || string(b) != pattern(int(info.Size)) {
					t.Errorf("read %d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
	e.put(t, "d/x", "last")
	e.wants(t, "d/x", "last")
}

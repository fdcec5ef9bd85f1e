package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func conditionTests() group {
	return group{
		"if-absent creates once":                             ifAbsent,
		"if-match replaces only what was seen":               ifMatch,
		"a conditional delete removes only what was seen":    ifMatchDelete,
		"of many who create one wins":                        createRace,
		"compare-and-set loses no update":                    counter,
		"a deleted and created object does not match before": recreated,
	}
}

func (e *env) lost(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrCondition) {
		t.Errorf("%s: %v; want ErrCondition", what, err)
	}
}

func ifAbsent(t *testing.T, e *env) {
	info, err := e.s.Put(e.ctx, "new/d/x", store.Bytes("first"), store.IfAbsent())
	if err != nil {
		t.Fatalf("with nothing there: %v", err)
	}
	for _, content := range []string{"second", "first"} {
		_, err = e.s.Put(e.ctx, "new/d/x", store.Bytes(content), store.IfAbsent())
		e.lost(t, "if-absent over an object", err)
	}
	if head := e.wants(t, "new/d/x", "first"); head.ETag != info.ETag {
		t.Errorf("the etag went from %q to %q", info.ETag, head.ETag)
	}
	if err := e.s.Delete(e.ctx, "new/d/x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.s.Put(e.ctx, "new/d/x", store.Bytes("third"), store.IfAbsent()); err != nil {
		t.Errorf("after a delete: %v", err)
	}
	e.wants(t, "new/d/x", "third")
}

func ifMatch(t *testing.T, e *env) {
	_, err := e.s.Put(e.ctx, "d/x", store.Bytes("x"), store.IfMatch("2a96ea2f-b2f1-c5ae-97a6-c25b7d8b9e34"))
	e.lost(t, "if-match with nothing there", err)
	e.gone(t, "d/x")

	one := e.put(t, "d/x", "one")
	two, err := e.s.Put(e.ctx, "d/x", store.Bytes("two"), store.IfMatch(one.ETag))
	if err != nil {
		t.Fatalf("if-match with the etag of the last put: %v", err)
	}
	_, err = e.s.Put(e.ctx, "d/x", store.Bytes("late"), store.IfMatch(one.ETag))
	e.lost(t, "if-match with an old etag", err)
	if head := e.wants(t, "d/x", "two"); head.ETag != two.ETag {
		t.Errorf("the etag went from %q to %q", two.ETag, head.ETag)
	}
	var listed store.Info
	for _, l := range e.list(t, "d") {
		listed = l
	}
	if _, err := e.s.Put(e.ctx, "d/x", store.Bytes("two"), store.IfMatch(listed.ETag)); err != nil {
		t.Errorf("if-match with the etag of a listing: %v", err)
	}
	_, err = e.s.Put(e.ctx, "d/x", store.Bytes("three"), store.IfMatch(two.ETag))
	e.lost(t, "if-match after the same bytes were written again", err)
}

func ifMatchDelete(t *testing.T, e *env) {
	one := e.put(t, "d/x", "one")
	two := e.put(t, "d/x", "two")
	e.lost(t, "delete with an old etag", e.s.Delete(e.ctx, "d/x", store.IfMatch(one.ETag)))
	e.wants(t, "d/x", "two")
	if err := e.s.Delete(e.ctx, "d/x", store.IfMatch(two.ETag)); err != nil {
		t.Fatalf("delete with the right etag: %v", err)
	}
	e.gone(t, "d/x")
	if err := e.s.Delete(e.ctx, "d/x", store.IfMatch(two.ETag)); !errors.Is(err, store.ErrCondition) && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("conditional delete of what is gone: %v", err)
	}
}

func recreated(t *testing.T, e *env) {
	one := e.put(t, "d/x", "same")
	if err := e.s.Delete(e.ctx, "d/x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	e.put(t, "d/x", "same")
	_, err := e.s.Put(e.ctx, "d/x", store.Bytes("late"), store.IfMatch(one.ETag))
	e.lost(t, "if-match with the etag of a former life", err)
	e.wants(t, "d/x", "same")
}

func createRace(t *testing.T, e *env) {
	const rounds, writers = 8, 16
	for round := range rounds {
		key := fmt.Sprintf("race/%d/x", round)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range writers {
			wg.Go(func() {
				<-start
				_, errs[i] = e.s.Put(e.ctx, key, store.Bytes(fmt.Sprintf("writer %d", i)), store.IfAbsent())
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("writers %d and %d both created %s", winner, i, key)
			case err == nil:
				winner = i
			default:
				e.lost(t, "a loser", err)
			}
		}
		if winner < 0 {
			t.Fatalf("nobody created %s", key)
		}
		e.wants(t, key, fmt.Sprintf("writer %d", winner))
	}
}

func counter(t *testing.T, e *env) {
	const writers, each = 8, 6
	e.put(t, "counter", "0")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				b, info, err := store.Read(e.ctx, e.s, "counter", 16)
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				n, err := strconv.Atoi(string(b))
				if err != nil {
					t.Errorf("the counter holds %q", b)
					return
				}
				_, err = e.s.Put(e.ctx, "counter", store.Bytes(strconv.Itoa(n+1)), store.IfMatch(info.ETag))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrCondition):
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	e.wants(t, "counter", strconv.Itoa(writers*each))
}

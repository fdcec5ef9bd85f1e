package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func directoryTests() group {
	return group{
		"a listing is in byte order and of direct children":   byteOrder,
		"an absent directory lists empty":                     absentDirectory,
		"a directory is described and deleted only if empty":  directories,
		"an object and a directory do not replace each other": noReplace,
		"a listing can be left early":                         leaveEarly,
		"two thousand objects are listed":                     manyObjects,
		"two names do not run into each other":                prefixes,
	}
}

func byteOrder(t *testing.T, e *env) {
	names := []string{"a", "A", "a-b", "a.b", "a0", "aa", "B", "b", "_", "~", "0", "10", "2", "-", "é", "z", "日本"}
	for _, name := range names {
		e.put(t, "d/"+name, name)
	}
	e.put(t, "d/a!/below", "in a directory") // sorts between objects
	e.put(t, "d/zz/below", "in a directory")
	e.put(t, "other/x", "x")
	want := []string{"d/a!", "d/zz"}
	for _, name := range names {
		want = append(want, "d/"+name)
	}
	slices.Sort(want)
	got := e.list(t, "d")
	if !slices.Equal(keys(got), want) {
		t.Fatalf("listed %q\nwant   %q", keys(got), want)
	}
	for _, info := range got {
		if isDir := info.Key == "d/a!" || info.Key == "d/zz"; info.Dir != isDir {
			t.Errorf("%s: dir %v", info.Key, info.Dir)
		}
	}
	if top := keys(e.list(t, "")); !slices.Equal(top, []string{"d", "other"}) {
		t.Errorf("the top lists %q", top)
	}
}

func absentDirectory(t *testing.T, e *env) {
	for _, dir := range []string{"", "none", "none/at/all"} {
		if l := e.list(t, dir); len(l) != 0 {
			t.Errorf("%q lists %q", dir, keys(l))
		}
	}
	e.put(t, "d/x", "x")
	if l := e.list(t, "d/y"); len(l) != 0 {
		t.Errorf("an absent directory lists %q", keys(l))
	}
	for info, err := range e.s.List(e.ctx, "d/x") {
		if err == nil {
			t.Errorf("an object, listed as a directory, holds %+v", info)
		}
	}
}

func directories(t *testing.T, e *env) {
	e.put(t, "d/sub/x", "x")
	for _, key := range []string{"d", "d/sub"} {
		info, err := e.s.Head(e.ctx, key)
		if err != nil || !info.Dir || info.Key != key || info.Size != 0 || info.ETag != "" || info.HasMD5 {
			t.Errorf("head of a directory: %+v, %v", info, err)
		}
		if rc, _, err := e.s.Get(e.ctx, key); err == nil {
			rc.Close()
			t.Errorf("get of the directory %s succeeded", key)
		}
		if err := e.s.Delete(e.ctx, key, store.Condition{}); err == nil {
			t.Errorf("%s was deleted and was not empty", key)
		}
	}
	e.wants(t, "d/sub/x", "x")
	for _, key := range []string{"d/sub/x", "d/sub", "d/sub", "d"} {
		if err := e.s.Delete(e.ctx, key, store.Condition{}); err != nil {
			t.Fatalf("delete %s: %v", key, err)
		}
	}
	e.gone(t, "d/sub")
	e.gone(t, "d")
	e.put(t, "d/sub/x", "again") // directories are made on demand, whatever is remembered of them
	e.wants(t, "d/sub/x", "again")
}

func noReplace(t *testing.T, e *env) {
	e.put(t, "d/x", "x")
	if _, err := e.s.Put(e.ctx, "d", store.Bytes("object"), store.Condition{}); err == nil {
		t.Error("an object replaced a directory")
	}
	for _, key := range []string{"d/x/y", "d/x/y/z"} {
		if _, err := e.s.Put(e.ctx, key, store.Bytes("below"), store.Condition{}); err == nil {
			t.Errorf("%s was put below an object", key)
		}
	}
	e.wants(t, "d/x", "x")
	if l := keys(e.list(t, "d")); !slices.Equal(l, []string{"d/x"}) {
		t.Errorf("the directory lists %q", l)
	}
}

func leaveEarly(t *testing.T, e *env) {
	for i := range 20 {
		e.put(t, fmt.Sprintf("d/%02d", i), "x")
	}
	for range 50 {
		for _, err := range e.s.List(e.ctx, "d") {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if n := len(e.list(t, "d")); n != 20 {
		t.Errorf("%d listed", n)
	}
}

func manyObjects(t *testing.T, e *env) {
	const n = 2000
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if _, err := e.s.Put(e.ctx, fmt.Sprintf("many/%04d", i), store.Bytes(fmt.Sprint(i)), store.Condition{}); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	l := e.list(t, "many")
	if len(l) != n {
		t.Fatalf("%d of %d listed", len(l), n)
	}
	for i, info := range l {
		if info.Key != fmt.Sprintf("many/%04d", i) || info.Size != int64(len(fmt.Sprint(i))) || info.ETag == "" {
			t.Fatalf("entry %d is %+v", i, info)
		}
	}
}

func prefixes(t *testing.T, e *env) {
	for _, key := range []string{"x", "x1", "x-1", "d/x", "d/x.1", "d1/x", "d-/x"} {
		e.put(t, key, key)
	}
	if l := keys(e.list(t, "d")); !slices.Equal(l, []string{"d/x", "d/x.1"}) {
		t.Errorf("d lists %q", l)
	}
	if err := e.s.Delete(e.ctx, "x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	e.gone(t, "x")
	for _, key := range []string{"x1", "x-1", "d/x", "d/x.1", "d1/x", "d-/x"} {
		e.wants(t, key, key)
	}
}

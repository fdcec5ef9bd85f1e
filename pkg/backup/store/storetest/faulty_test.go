package storetest_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
)

func plain(t *testing.T) store.Store {
	t.Helper()
	s, err := filestore.New(t.TempDir(), filestore.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFaultyWithoutHookIsTransparent(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return storetest.Faulty(plain(t), nil) })
}

func put(t *testing.T, s store.Store, key, content string) store.Info {
	t.Helper()
	info, err := s.Put(context.Background(), key, store.Bytes(content), store.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestFaultyFailsTheNthOperationOfAKind(t *testing.T) {
	boom := errors.New("boom")
	s := storetest.Faulty(plain(t), storetest.FailNth(storetest.Put, 2, boom))
	ctx := context.Background()
	put(t, s, "a", "a")
	if _, err := s.Put(ctx, "b", store.Bytes("b"), store.Condition{}); !errors.Is(err, boom) {
		t.Errorf("second put: %v", err)
	}
	put(t, s, "c", "c")
	if _, err := s.Head(ctx, "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the failed put was applied: %v", err)
	}
	if s.Count(storetest.Put) != 3 || s.Count(storetest.Head) != 1 || s.Total() != 4 || len(s.Ops()) != 4 || s.Ops()[1].Key != "b" {
		t.Errorf("counted %+v", s.Ops())
	}
	s.Reset()
	s.SetHook(storetest.FailFrom(2, boom))
	if _, err := s.Now(ctx); err != nil {
		t.Error(err)
	}
	errs := []error{s.Delete(ctx, "a", store.Condition{})}
	for _, err := range s.List(ctx, "") {
		errs = append(errs, err)
	}
	_, _, err := s.Get(ctx, "a")
	for _, err := range append(errs, err) {
		if !errors.Is(err, boom) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestFaultyLosesAnswersAfterTheEffect(t *testing.T) {
	ctx := context.Background()
	s := storetest.Faulty(plain(t), func(storetest.Op) storetest.Fault { return storetest.Fault{LoseAnswer: true} })
	_, err := s.Put(ctx, "a", store.Bytes("a"), store.IfAbsent())
	if !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("conditional put: %v", err)
	}
	if _, err = s.Put(ctx, "a", store.Bytes("a"), store.IfAbsent()); !errors.Is(err, store.ErrCondition) {
		t.Errorf("a put that was refused has an answer to tell: %v", err)
	}
	_, err = s.Put(ctx, "b", store.Bytes("b"), store.Condition{})
	if err == nil || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("unconditional put: %v", err)
	}
	head, err := s.Store.Head(ctx, "a")
	if err != nil {
		t.Fatalf("the put was not applied: %v", err)
	}
	if err := s.Delete(ctx, "a", store.IfMatch(head.ETag)); !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("conditional delete: %v", err)
	}
	if _, err := s.Store.Head(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the delete was not applied: %v", err)
	}
	for name, read := range map[string]func() error{
		"get":  func() error { _, _, err := s.Get(ctx, "b"); return err },
		"head": func() error { _, err := s.Head(ctx, "b"); return err },
		"now":  func() error { _, err := s.Now(ctx); return err },
		"list": func() (last error) {
			for _, last = range s.List(ctx, "") {
			}
			return last
		},
	} {
		if err := read(); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFaultySpoilsReads(t *testing.T) {
	ctx := context.Background()
	s := storetest.Faulty(plain(t), nil)
	for _, key := range []string{"d/a", "d/b", "d/c", "d/e"} {
		put(t, s, key, "content")
	}
	only := func(key string) bool { return key == "d/a" }
	s.SetHook(storetest.First(
		storetest.Keys(storetest.Get, only, storetest.Fault{Corrupt: true}),
		storetest.Keys(storetest.Get, func(key string) bool { return key == "d/b" }, storetest.Fault{Truncate: true}),
		storetest.Nth(storetest.List, 1, storetest.Fault{Truncate: true}),
	))
	read := func(key string) (string, error) {
		rc, _, err := s.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		b, err := io.ReadAll(rc)
		return string(b), err
	}
	if b, err := read("d/a"); !errors.Is(err, store.ErrCorrupt) || b == "content" || len(b) != 7 {
		t.Errorf("corrupt: %q, %v", b, err)
	}
	if b, err := read("d/b"); !errors.Is(err, io.ErrUnexpectedEOF) || b != "con" {
		t.Errorf("truncated: %q, %v", b, err)
	}
	if b, err := read("d/c"); err != nil || b != "content" {
		t.Errorf("neither: %q, %v", b, err)
	}
	for _, want := range []int{2, 4} {
		n := 0
		var last error
		for _, err := range s.List(ctx, "d") {
			if last = err; err == nil {
				n++
			}
		}
		if n != want || (want == 2) != errors.Is(last, storetest.ErrInjected) {
			t.Errorf("%d of %d listed, %v", n, want, last)
		}
	}
}

func TestFaultyDelaysEndWithTheContext(t *testing.T) {
	s := storetest.Faulty(plain(t), func(storetest.Op) storetest.Fault { return storetest.Fault{Delay: time.Hour} })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Head(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	s.SetHook(storetest.LoseNth(storetest.Head, 99))
	if _, err := s.Head(context.Background(), "a"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

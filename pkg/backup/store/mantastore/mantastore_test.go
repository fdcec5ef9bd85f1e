package mantastore_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/mantastore"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/manta"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return newLab(t).store(t) })
}

// TestContractOnABadDay runs everything over a service that answers late, throws
// one request in twenty out before it looks at it, and cuts answers.
func TestContractOnABadDay(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the contract a second time")
	}
	storetest.Run(t, func(t *testing.T) store.Store {
		l := newLab(t)
		l.add(t, fault.Fault{Kind: fault.Latency, Delay: fault.Duration(3e6), Probability: 0.1})
		l.add(t, fault.Fault{Kind: fault.Status, Probability: 0.05, Method: "GET,HEAD"})
		l.add(t, fault.Fault{Kind: fault.Truncate, Probability: 0.05, Method: "GET", Path: "/bob/stor/images/**"})
		return l.store(t, func(c *manta.Config) { c.Retry.Attempts = 12 })
	})
}

func TestNewTakesAbsoluteDirectoriesOnly(t *testing.T) {
	c := newLab(t).client(t)
	for _, dir := range []string{"", "/", "bob/stor", "/bob", "/bob/../alice", "/bob//stor", "/bob/stor/\n", "~~/stor"} {
		if _, err := mantastore.New(c, dir); err == nil {
			t.Errorf("%q was taken", dir)
		}
	}
	s, err := mantastore.New(c, "/bob/stor/images/")
	if err != nil {
		t.Fatal(err)
	}
	if s.Root() != "/bob/stor/images" || s.Path("a/b") != "/bob/stor/images/a/b" || s.String() != "/bob/stor/images at "+c.URL() {
		t.Errorf("%s, %s, %s", s.Root(), s.Path("a/b"), s)
	}
}

func TestHostileKeysSendNothing(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	for _, key := range storetest.BadKeys() {
		if _, err := s.Put(context.Background(), key, store.Bytes("x"), store.Condition{}); !errors.Is(err, store.ErrBadKey) {
			t.Errorf("put %.40q: %v", key, err)
		}
		if err := s.Delete(context.Background(), key, store.Condition{}); !errors.Is(err, store.ErrBadKey) {
			t.Errorf("delete %.40q: %v", key, err)
		}
	}
	if r := l.met(); len(r) != 0 {
		t.Errorf("sent: %v", r)
	}
}

func TestAHostileNameInAListingIsAnError(t *testing.T) {
	l := newLab(t)
	s, c := l.store(t), l.client(t)
	ctx := context.Background()
	if _, err := s.Put(ctx, "d/a", store.Bytes("x"), store.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b\nc", `b\c`, "b\x1b[2J", strings.Repeat("b", 300)} {
		if _, err := c.Put(ctx, "/bob/stor/images/d/"+name, manta.Bytes("x"), manta.PutOptions{}); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		var last error
		for info, err := range s.List(ctx, "d") {
			if last = err; err == nil && info.Key != "d/a" {
				t.Errorf("listed %q", info.Key)
			}
		}
		if !errors.Is(last, store.ErrBadKey) || strings.ContainsAny(last.Error(), "\n\x1b") {
			t.Errorf("%q: %q", name, last)
		}
		if err := c.Delete(ctx, "/bob/stor/images/d/"+name, manta.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARefusedKeyKeepsItsDetails(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	l.add(t, fault.Fault{Kind: fault.KeyNotPropagated})
	ctx := context.Background()
	_, put := s.Put(ctx, "d/x", store.Bytes("x"), store.IfAbsent())
	_, head := s.Head(ctx, "d/x")
	_, _, get := s.Get(ctx, "d/x")
	_, now := s.Now(ctx)
	var list error
	for _, list = range s.List(ctx, "d") {
	}
	for what, err := range map[string]error{"put": put, "head": head, "get": get, "list": list, "delete": s.Delete(ctx, "d/x", store.Condition{})} {
		var me *manta.Error
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, manta.ErrAuth) || fail.CodeOf(err) != fail.Unreachable {
			t.Errorf("%s: %v", what, err)
		}
		if !errors.As(err, &me) || me.Status != 403 || me.Code == "" || me.Path == "" {
			t.Errorf("%s: details lost: %+v", what, me)
		}
	}
	if now != nil {
		t.Errorf("an answer that refuses has a date too: %v", now)
	}
}

func TestAnUnreachableStoreSaysSo(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	l.add(t, fault.Fault{Kind: fault.Partition})
	ctx := context.Background()
	_, put := s.Put(ctx, "d/x", store.Bytes("x"), store.Condition{})
	_, head := s.Head(ctx, "d/x")
	_, now := s.Now(ctx)
	for what, err := range map[string]error{"put": put, "head": head, "now": now} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	l.faults.Clear()
	if _, err := s.Put(ctx, "d/x", store.Bytes("x"), store.Condition{}); err != nil {
		t.Errorf("after the partition: %v", err)
	}
}

func TestListingsOfOldFrontEndsComeWithoutSums(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	ctx := context.Background()
	put, err := s.Put(ctx, "d/x", store.Bytes("content"), store.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	l.add(t, fault.Fault{Kind: fault.NoContentMD5})
	for info, err := range s.List(ctx, "d") {
		if err != nil || info.HasMD5 || info.ETag != put.ETag || info.Size != 7 {
			t.Errorf("listed %+v, %v", info, err)
		}
	}
	if head, err := s.Head(ctx, "d/x"); err != nil || !head.HasMD5 || head.MD5 != put.MD5 {
		t.Errorf("head %+v, %v", head, err)
	}
}

func TestListingsWithoutEndAreErrors(t *testing.T) {
	for _, kind := range []fault.Kind{fault.EndlessListing, fault.RepeatListing} {
		l := newLab(t)
		s := l.store(t)
		ctx := context.Background()
		for i := range 1100 { // more than one page
			if _, err := s.Put(ctx, fmt.Sprintf("d/%04d", i), store.Bytes("x"), store.Condition{}); err != nil {
				t.Fatal(err)
			}
			if kind == fault.EndlessListing {
				break
			}
		}
		l.add(t, fault.Fault{Kind: kind})
		var last error
		n := 0
		for _, last = range s.List(ctx, "d") {
			n++
		}
		if last == nil || n > 3<<20 {
			t.Errorf("%s: %d entries, %v", kind, n, last)
		}
	}
}

// TestAnObjectInPlaceOfTheDirectoryIsNotReplaced: somebody put an object where the
// backup was to be.
func TestAnObjectInPlaceOfTheDirectoryIsNotReplaced(t *testing.T) {
	l := newLab(t)
	s, c := l.store(t), l.client(t)
	ctx := context.Background()
	if _, err := c.Put(ctx, s.Root(), manta.Bytes("precious"), manta.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"x", "d/x", "d/e/f/x"} {
		for _, cond := range []store.Condition{{}, store.IfAbsent()} {
			if _, err := s.Put(ctx, key, store.Bytes("x"), cond); err == nil {
				t.Errorf("put %s: no error", key)
			}
		}
	}
	if info, err := c.Head(ctx, s.Root()); err != nil || info.IsDir() || info.Size != 8 {
		t.Errorf("the object is %+v, %v", info, err)
	}
}

func TestAnAccountWithoutItsDirectoriesIsAnError(t *testing.T) {
	s, err := mantastore.New(newLab(t).client(t), "/bob/nowhere/images")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(context.Background(), "d/x", store.Bytes("x"), store.Condition{}); err == nil {
		t.Error("an object was put into an area that does not exist")
	}
}

func TestSmallAndLargePutsCostOneRequest(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	ctx := context.Background()
	if _, err := s.Put(ctx, "d/first", store.Bytes("x"), store.Condition{}); err != nil {
		t.Fatal(err)
	}
	l.met()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			size := 100
			if i%5 == 0 {
				size = 2 << 20
			}
			if _, err := s.Put(ctx, fmt.Sprintf("d/%d", i), store.Bytes(make([]byte, size)), store.Condition{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(l.met()); n != 20 {
		t.Errorf("%d requests for 20 objects", n)
	}
}

// believer is content with an opinion of its MD5.
type believer struct {
	store.Bytes
	sum store.MD5
}

func (b believer) Believed() (store.MD5, bool) { return b.sum, true }

func TestAWrongBeliefAboutContentIsFoundOut(t *testing.T) {
	s := newLab(t).store(t)
	content := store.Bytes(strings.Repeat("new and large ", 200<<10))
	want := store.MD5(md5.Sum(content))
	for what, sum := range map[string]store.MD5{"right": want, "wrong": md5.Sum(nil)} {
		info, err := s.Put(context.Background(), "d/"+what, believer{content, sum}, store.IfAbsent())
		if err != nil || info.MD5 != want || !info.HasMD5 || info.Size != content.Size() {
			t.Errorf("%s: %+v, %v", what, info, err)
		}
	}
}

package mantastore_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/mantastore"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/manta"
)

const oldContent = "the old content"

// contents are below and above the size from which content is streamed.
func contents() map[string]string {
	return map[string]string{"small": strings.Repeat("new ", 300), "large": strings.Repeat("new and large ", 200<<10)}
}

// writeFaults are what can happen to a write, by whether it was applied.
func writeFaults() map[string]fault.Fault {
	return map[string]fault.Fault{
		"503":               {Kind: fault.Status},
		"500":               {Kind: fault.Status, Status: 500, Code: "InternalError"},
		"throttled":         {Kind: fault.Throttle},
		"reset in request":  {Kind: fault.Reset, Side: "request", Bytes: 500},
		"reset in response": {Kind: fault.Reset},
		"lost answer":       {Kind: fault.LostAnswer},
		"no answer":         {Kind: fault.Stall, Delay: fault.Duration(2 * time.Second)},
		"disk full":         {Kind: fault.DiskFull},
	}
}

// now returns what is stored, "" for nothing; anything but a whole object fails.
func now(t *testing.T, s *mantastore.Store, key string) string {
	t.Helper()
	b, _, err := store.Read(context.Background(), s, key, 64<<20)
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatalf("%s is not readable: %v", key, err)
	}
	return string(b)
}

// impatient gives up on a silent service soon.
func impatient(c *manta.Config) { c.HeaderTimeout = 400 * time.Millisecond }

// TestAWriteMeetsAFault: every fault, once and for ever, on writes with and
// without a condition. No error means written; an error that is not an unknown
// outcome means that a conditional write was not applied; a conditional write that
// may have been applied is not repeated; and nothing but the whole old or the
// whole new content is ever there.
func TestAWriteMeetsAFault(t *testing.T) {
	for what, f := range writeFaults() {
		for size, content := range contents() {
			for _, count := range []int{1, 0} {
				for _, kind := range []string{"unconditional", "if absent", "if match"} {
					name := fmt.Sprintf("%s/%s/%s/%d", what, size, kind, count)
					t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
						t.Parallel() // most of the time is waiting
						f := f
						f.Count, f.Method = count, "PUT"
						writeMeets(t, f, content, kind)
					})
				}
			}
		}
	}
}

func writeMeets(t *testing.T, f fault.Fault, content, kind string) {
	l := newLab(t)
	s := l.store(t, impatient)
	ctx := context.Background()
	old, err := s.Put(ctx, "d/x", store.Bytes(oldContent), store.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	key, before, cond := "d/x", oldContent, store.Condition{}
	switch kind {
	case "if absent":
		key, before, cond = "d/new", "", store.IfAbsent()
	case "if match":
		cond = store.IfMatch(old.ETag)
	}
	l.add(t, f)
	info, err := s.Put(ctx, key, store.Bytes(content), cond)
	l.faults.Clear()
	after := now(t, s, key)
	if after != before && after != content {
		t.Fatalf("something else is there, %d bytes", len(after))
	}
	unknown := errors.Is(err, store.ErrUnknownOutcome)
	switch {
	case err == nil && after != content:
		t.Error("no error, and not written")
	case err == nil && info.MD5 != md5.Sum([]byte(content)):
		t.Errorf("info %+v", info)
	case err == nil:
	case unknown && cond.Unconditional():
		t.Errorf("an unknown outcome without a condition: %v", err)
	case !cond.Unconditional() && !unknown && after != before:
		t.Errorf("written, and the error does not say that it may be: %v", err)
	case f.Kind == fault.LostAnswer && !cond.Unconditional() && !unknown:
		t.Errorf("a lost answer: %v", err)
	case cond.Unconditional() && f.Count == 1 && f.Kind != fault.DiskFull:
		t.Errorf("not tried again: %v", err)
	}
	if n := whole(l, "/bob/stor/images/"+key, len(content)); !cond.Unconditional() && n > 1 {
		t.Errorf("a conditional put was sent whole %d times", n)
	}
}

// whole returns how often all of an object's content arrived since the last look.
// A conditional put may be sent again only while it cannot have been applied.
func whole(l *lab, path string, size int) (n int) {
	for _, r := range l.met() {
		if r.Method == "PUT" && r.Path == path && r.BytesIn == int64(size) {
			n++
		}
	}
	return n
}

func TestADeleteMeetsAFault(t *testing.T) {
	for what, f := range writeFaults() {
		if f.Side == "request" || f.Kind == fault.DiskFull {
			continue // there is no content to break in, and room is not needed
		}
		for _, conditional := range []bool{false, true} {
			l := newLab(t)
			s := l.store(t, impatient)
			ctx := context.Background()
			info, err := s.Put(ctx, "d/x", store.Bytes(oldContent), store.Condition{})
			if err != nil {
				t.Fatal(err)
			}
			cond := store.Condition{}
			if conditional {
				cond = store.IfMatch(info.ETag)
			}
			f.Count, f.Method = 1, "DELETE"
			l.add(t, f)
			err = s.Delete(ctx, "d/x", cond)
			there := now(t, s, "d/x") != ""
			switch {
			case !conditional && (err != nil || there):
				t.Errorf("%s: not tried again: %v", what, err)
			case conditional && err == nil && there, conditional && !there && err != nil && !errors.Is(err, store.ErrUnknownOutcome):
				t.Errorf("%s, conditional: there %v, %v", what, there, err)
			}
		}
	}
}

func TestAReadMeetsAFault(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 40<<10)
	for what, c := range map[string]struct {
		fault fault.Fault
		heals bool  // when it happens once
		want  error // when it happens always; nil: any error
	}{
		"503":               {fault.Fault{Kind: fault.Status}, true, store.ErrUnavailable},
		"throttled":         {fault.Fault{Kind: fault.Throttle}, true, store.ErrUnavailable},
		"reset at once":     {fault.Fault{Kind: fault.Reset}, true, store.ErrUnavailable},
		"reset in the body": {fault.Fault{Kind: fault.Reset, Bytes: 100 << 10}, true, nil},
		"truncated":         {fault.Fault{Kind: fault.Truncate}, true, nil},
		"stalled":           {fault.Fault{Kind: fault.Hang, Delay: fault.Duration(2 * time.Second)}, true, nil},
		"shortened":         {fault.Fault{Kind: fault.Short}, false, store.ErrCorrupt},
		"corrupted":         {fault.Fault{Kind: fault.Corrupt}, false, store.ErrCorrupt},
	} {
		for _, count := range []int{1, 0} {
			l := newLab(t)
			s := l.store(t, impatient)
			if _, err := s.Put(context.Background(), "d/x", store.Bytes(content), store.Condition{}); err != nil {
				t.Fatal(err)
			}
			f := c.fault
			f.Count, f.Method = count, "GET"
			l.add(t, f)
			b, err := readAll(s, "d/x")
			l.faults.Clear()
			switch {
			case err == nil && b != content:
				t.Errorf("%s: wrong bytes and no error", what)
			case count == 1 && c.heals && err != nil:
				t.Errorf("%s, once: %v", what, err)
			case count == 1 && !c.heals && !errors.Is(err, c.want):
				t.Errorf("%s, once: %v", what, err)
			case count == 0 && err == nil && f.Kind != fault.Reset && f.Kind != fault.Truncate && f.Kind != fault.Hang:
				t.Errorf("%s, always: no error", what)
			case count == 0 && err != nil && c.want != nil && !errors.Is(err, c.want):
				t.Errorf("%s, always: %v", what, err)
			}
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: ends like a whole object: %v", what, err)
			}
			if got := now(t, s, "d/x"); got != content {
				t.Errorf("%s: afterwards %d bytes", what, len(got))
			}
		}
	}
}

func readAll(s store.Store, key string) (string, error) {
	rc, _, err := s.Get(context.Background(), key)
	if err != nil {
		return "", err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return string(b), err
}

// TestAServiceThatLiesAboutASumIsSeenByWhoKnowsIt: wrong bytes with their own MD5
// pass a Get, and its Info tells.
func TestAServiceThatLiesAboutASumIsSeenByWhoKnowsIt(t *testing.T) {
	l := newLab(t)
	s := l.store(t)
	put, err := s.Put(context.Background(), "d/x", store.Bytes(oldContent), store.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	l.add(t, fault.Fault{Kind: fault.Lie, Method: "GET"})
	rc, info, err := s.Get(context.Background(), "d/x")
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, err := io.ReadAll(rc); err == nil && string(b) != oldContent && info.HasMD5 && info.MD5 == put.MD5 {
		t.Errorf("nobody could tell: %q, %+v", b, info)
	}
}

// TestAListingMeetsAFault: never fewer entries and no error.
func TestAListingMeetsAFault(t *testing.T) {
	l := newLab(t)
	fill := l.store(t)
	const n = 30
	for i := range n {
		if _, err := fill.Put(context.Background(), fmt.Sprintf("d/%02d", i), store.Bytes("x"), store.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	for what, f := range map[string]fault.Fault{
		"503":               {Kind: fault.Status},
		"throttled":         {Kind: fault.Throttle},
		"reset at once":     {Kind: fault.Reset},
		"reset in the body": {Kind: fault.Reset, Bytes: 1000},
		"truncated":         {Kind: fault.Truncate},
		"shortened":         {Kind: fault.Short},
		"stalled":           {Kind: fault.Hang, Delay: fault.Duration(2 * time.Second)},
	} {
		for _, count := range []int{1, 0} {
			s := l.store(t, impatient)
			f.Count, f.Method = count, "GET"
			l.add(t, f)
			got := 0
			var last error
			for _, err := range s.List(context.Background(), "d") {
				if last = err; err == nil {
					got++
				}
			}
			l.faults.Clear()
			if last == nil && got != n {
				t.Errorf("%s, %d times: %d of %d entries and no error", what, count, got, n)
			}
			if count == 1 && last != nil && f.Kind != fault.Short {
				t.Errorf("%s, once: %v", what, last)
			}
			if count == 0 && last == nil {
				t.Errorf("%s, always: no error", what)
			}
		}
	}
}

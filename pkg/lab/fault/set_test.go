package fault

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustAdd(t testing.TB, s *Set, f Fault) Fault {
	t.Helper()
	f, err := s.Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func hits(s *Set, r Request, n int) string {
	var b strings.Builder
	for range n {
		if len(s.Match(r)) > 0 {
			b.WriteByte('x')
		} else {
			b.WriteByte('.')
		}
	}
	return b.String()
}

func TestSkipCountAndTimeBoundAFault(t *testing.T) {
	s := NewSet(1)
	at := time.Now()
	s.now = func() time.Time { return at }
	r := Request{"manta", "m1", "GET", "/a"}
	mustAdd(t, s, Fault{ID: "n", Kind: Status, Skip: 2, Count: 3})
	if got := hits(s, r, 8); got != "..xxx..." {
		t.Errorf("skip and count: %s", got)
	}
	if l := s.List(); l[0].Hits != 3 || !l[0].Done || l[0].Seen != 5 {
		t.Errorf("%+v", l)
	}
	s.Clear()
	mustAdd(t, s, Fault{Kind: Status, For: Duration(time.Minute)})
	before := hits(s, r, 2)
	at = at.Add(time.Minute)
	if got := before + hits(s, r, 2); got != "xx.." {
		t.Errorf("for: %s", got)
	}
}

func TestTheSameSeedDecidesTheSameWay(t *testing.T) {
	run := func(seed uint64) string {
		s := NewSet(seed)
		mustAdd(t, s, Fault{Kind: Status, Probability: 0.3})
		return hits(s, Request{Method: "GET"}, 200)
	}
	a := run(7)
	if a != run(7) {
		t.Error("two runs differ")
	}
	if a == run(8) {
		t.Error("another seed decides the same")
	}
	if n := strings.Count(a, "x"); n < 30 || n > 90 {
		t.Errorf("0.3 of 200 came to %d", n)
	}
}

func TestFaultsMeetOnlyWhatTheyAreMeantFor(t *testing.T) {
	for _, c := range []struct {
		f    Fault
		r    Request
		meet bool
	}{
		{Fault{Kind: Status}, Request{"manta", "a", "GET", "/x"}, true},
		{Fault{Kind: Status, Service: "imgapi"}, Request{"manta", "a", "GET", "/x"}, false},
		{Fault{Kind: Status, Service: "manta", Instance: "b"}, Request{"manta", "a", "GET", "/x"}, false},
		{Fault{Kind: Status, Method: "PUT,DELETE"}, Request{"manta", "a", "DELETE", "/x"}, true},
		{Fault{Kind: Status, Method: "PUT,DELETE"}, Request{"manta", "a", "GET", "/x"}, false},
		{Fault{Kind: Corrupt}, Request{"manta", "a", "PUT", "/x"}, false},
		{Fault{Kind: LostAnswer}, Request{"manta", "a", "GET", "/x"}, false},
		{Fault{Kind: LostAnswer}, Request{"manta", "a", "PUT", "/x"}, true},
		{Fault{Kind: Status, Path: "/a/*/c"}, Request{"", "", "GET", "/a/b/c"}, true},
		{Fault{Kind: Status, Path: "/a/*"}, Request{"", "", "GET", "/a/b/c"}, false},
		{Fault{Kind: Status, Path: "/a/**"}, Request{"", "", "GET", "/a/b/c"}, true},
		{Fault{Kind: Status, Path: "**/*.json"}, Request{"", "", "GET", "/a/b/c.json"}, true},
		{Fault{Kind: Status, Path: "/a/**/c"}, Request{"", "", "GET", "/a/c"}, true},
	} {
		s := NewSet(1)
		mustAdd(t, s, c.f)
		if got := len(s.Match(c.r)) > 0; got != c.meet {
			t.Errorf("%+v meets %+v: %v", c.f, c.r, got)
		}
	}
}

func TestOneFaultDecidesAndOthersAreNotUsedUp(t *testing.T) {
	s := NewSet(1)
	mustAdd(t, s, Fault{ID: "late", Kind: Latency, Delay: Duration(time.Second)})
	mustAdd(t, s, Fault{ID: "s", Kind: Status, Count: 1})
	mustAdd(t, s, Fault{ID: "r", Kind: Reset, Count: 1})
	var got []string
	for range 3 {
		var ids []string
		for _, f := range s.Match(Request{Method: "GET"}) {
			ids = append(ids, f.ID)
		}
		got = append(got, strings.Join(ids, "+"))
	}
	if want := []string{"late+s", "late+r", "late"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWhatMakesNoSenseIsRefusedByName(t *testing.T) {
	for want, f := range map[string]Fault{
		"no kind":      {},
		"unknown kind": {Kind: "explode"},
		"skip":         {Kind: Status, Skip: -1},
		"count":        {Kind: Status, Count: -1},
		"probability":  {Kind: Status, Probability: 1.5},
		"status":       {Kind: Status, Status: 200},
		"delay":        {Kind: Latency},
		"side":         {Kind: Reset, Side: "left"},
		"method":       {Kind: Status, Method: "get"},
		"path":         {Kind: Status, Path: "/a[/b"},
		"bytes":        {Kind: Truncate, Bytes: -1},
	} {
		if _, err := NewSet(1).Add(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want one about %s", f, err, want)
		}
	}
	s := NewSet(1)
	mustAdd(t, s, Fault{ID: "a", Kind: Status})
	if _, err := s.Add(Fault{ID: "a", Kind: Reset}); err == nil {
		t.Error("an id was taken twice")
	}
	if f := mustAdd(t, s, Fault{Kind: Reset}); f.ID == "" || !s.Remove(f.ID) || s.Remove(f.ID) {
		t.Errorf("%+v", f)
	}
}

func TestASetSurvivesJSON(t *testing.T) {
	s := NewSet(1)
	mustAdd(t, s, Fault{Kind: Latency, Service: "manta", Method: "GET", Path: "/a/**", Delay: Duration(250 * time.Millisecond), Probability: 0.5})
	mustAdd(t, s, Fault{Kind: Throttle, Count: 3, RetryAfter: 2})
	s.Match(Request{"manta", "", "PUT", "/b"})
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"delay":"250ms"`) {
		t.Errorf("%s", b)
	}
	o := NewSet(2)
	if err := json.Unmarshal(b, o); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.List(), o.List()) {
		t.Errorf("%+v\n%+v", s.List(), o.List())
	}
	for _, bad := range []string{
		`{"faults":[{"id":"a","kind":"status","colour":"red"}]}`, `{"faults":[{"kind":"status"}]}`,
		`{"faults":[{"id":"a","kind":"status"},{"id":"a","kind":"status"}]}`, `{"faults":[{"id":"a","kind":"latency","delay":3}]}`,
		`{"faults":[]} {}`, `[]`,
	} {
		if err := json.Unmarshal([]byte(bad), o); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if len(o.List()) != 2 {
		t.Error("a refused document changed the set")
	}
}

func TestServicesMayBringTheirOwnFlags(t *testing.T) {
	s := NewSet(1, KindHelp{"crash", "ends the process"})
	mustAdd(t, s, Fault{Kind: "crash", Method: "POST"})
	if m := s.Match(Request{Method: "POST"}); len(m) != 1 || m[0].Kind != "crash" {
		t.Errorf("%+v", m)
	}
	found := false
	for _, k := range s.Kinds() {
		found = found || k.Kind == "crash" && k.Help == "ends the process"
	}
	if !found {
		t.Error("the flag is not listed")
	}
}

func TestASetMayBeUsedFromManyGoroutines(t *testing.T) {
	s := NewSet(1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				id := fmt.Sprintf("%d-%d", i, j)
				if _, err := s.Add(Fault{ID: id, Kind: Status, Count: 1}); err != nil {
					t.Error(err)
				}
				s.Match(Request{Method: "GET"})
				s.List()
				s.refuses("manta", "", true)
				s.Remove(id)
			}
		})
	}
	wg.Wait()
	if n := len(s.List()); n != 0 {
		t.Errorf("%d faults left", n)
	}
}

func TestCountsHoldUnderConcurrency(t *testing.T) {
	s := NewSet(1)
	mustAdd(t, s, Fault{Kind: Status, Count: 50})
	var wg sync.WaitGroup
	var mu sync.Mutex
	met := 0
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if len(s.Match(Request{Method: "GET"})) > 0 {
					mu.Lock()
					met++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if met != 50 {
		t.Errorf("met %d requests, want 50", met)
	}
}

func FuzzFaultJSON(f *testing.F) {
	f.Add([]byte(`{"kind":"latency","delay":"1s","path":"/a/**","probability":0.5}`))
	f.Add([]byte(`{"kind":"reset","side":"request","bytes":5,"count":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := Parse(b)
		if err != nil {
			return
		}
		s := NewSet(1)
		if x, err = s.Add(x); err != nil {
			return
		}
		s.Match(Request{"manta", "m", "GET", "/a/b"})
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		o := NewSet(1)
		if err := json.Unmarshal(out, o); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !reflect.DeepEqual(o.List()[0].Fault, x) {
			t.Fatalf("%+v became %+v", x, o.List()[0].Fault)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("/a/**/b*", "/a/x/y/bc")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		Glob(pattern, name)
		if !strings.ContainsAny(name, `*?[\`) && !Glob(name, name) {
			t.Fatalf("%q does not match itself", name)
		}
		if !Glob("**", name) {
			t.Fatalf("** does not match %q", name)
		}
	})
}

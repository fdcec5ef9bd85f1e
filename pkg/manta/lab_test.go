package manta

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
)

// rehearsal is the lab's Manta, written independently of this client, over TLS.
func rehearsal(t *testing.T, lab mantad.Config, change ...func(*Config)) (*Client, *fault.Set, *mantad.Server) {
	t.Helper()
	set := fault.NewSet(1)
	lab.Dir, lab.Faults, lab.Accounts = t.TempDir(), set, []mantad.Account{{Login: "bob"}}
	s, err := mantad.New(lab)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddKey("bob", "", testKey(t).AuthorizedKey()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := httptest.NewUnstartedServer(nil) // for its certificate
	cert.StartTLS()
	defer cert.Close()
	go s.Serve(l, &tls.Config{Certificates: cert.TLS.Certificates})
	t.Cleanup(func() { s.Close() })
	signer, err := NewSigner(testKey(t), "bob", "")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{URL: "https://" + l.Addr().String(), Account: "bob", Signer: signer, Insecure: true, HeaderTimeout: 5 * time.Second,
		Retry: Retry{Attempts: 5, Base: 2 * time.Millisecond, Max: 20 * time.Millisecond}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, set, s
}

func TestTheLabsMantaAgreesWithTheClient(t *testing.T) {
	c, _, _ := rehearsal(t, mantad.Config{})
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			data := pattern(i * i * 700)
			p := fmt.Sprintf("~~/stor/a b/d%d/o%02d é", i%3, i)
			put, err := c.Put(ctx, p, Bytes(data), PutOptions{Parents: true, SendMD5: i%2 == 0, Metadata: map[string]string{"m-i": fmt.Sprint(i)}})
			if err != nil {
				t.Error(err)
				return
			}
			head, err := c.Head(ctx, p)
			if err != nil || head.ETag != put.ETag || head.Size != int64(len(data)) || !bytes.Equal(head.MD5, put.MD5) || head.Metadata["m-i"] != fmt.Sprint(i) {
				t.Errorf("%+v, %v", head, err)
			}
			if got, err := read(c, ctx, p, GetOptions{ETag: put.ETag}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	labListing(t, c, "~~/stor/a b/d1", 13)
	for name, err := range map[string]error{
		"absent": func() error {
			_, err := c.Put(ctx, "~~/stor/a b/d1/o01 é", Bytes("x"), PutOptions{If: Absent()})
			return err
		}(),
		"match": func() error {
			_, err := c.Put(ctx, "~~/stor/a b/d1/o01 é", Bytes("x"), PutOptions{If: Match("no")})
			return err
		}(),
		"delete": c.Delete(ctx, "~~/stor/a b/d1/o01 é", Match("no")),
		"get":    func() error { _, err := c.Get(ctx, "~~/stor/a b/d1/o01 é", GetOptions{ETag: "no"}); return err }(),
		"big absent": func() error {
			_, err := c.Put(ctx, "~~/stor/a b/d1/o01 é", Bytes(pattern(3<<20)), PutOptions{If: Absent()})
			return err
		}(),
	} {
		if !errors.Is(err, ErrPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Delete(ctx, "~~/stor/a b", Condition{}); err == nil {
		t.Error("a directory with entries was deleted")
	}
	if _, err := c.Put(ctx, "~~/stor/none/o", Bytes("x"), PutOptions{}); !errors.Is(err, ErrParentMissing) {
		t.Errorf("missing parent: %v", err)
	}
	if got, err := read(c, ctx, "~~/stor/a b/d0/o39 é", GetOptions{Offset: 100, Length: 50}); err != nil || !bytes.Equal(got, pattern(39 * 39 * 700)[100:150]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
}

// TestAnObjectInTheWayOfADirectorySurvives: the service would let the directory
// replace it.
func TestAnObjectInTheWayOfADirectorySurvives(t *testing.T) {
	ctx := t.Context()
	for _, at := range []string{"/bob/stor/a", "/bob/stor/a/b", "/bob/stor/a/b/c"} {
		first, _, _ := rehearsal(t, mantad.Config{})
		kept, err := first.Put(ctx, at, Bytes("precious"), PutOptions{Parents: true})
		if err != nil {
			t.Fatal(err)
		}
		second, err := New(first.cfg) // knows no directories
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		for _, c := range []*Client{first, second} {
			put := func(p string, cond Condition) error {
				_, err := c.Put(ctx, p, Bytes("x"), PutOptions{Parents: true, If: cond})
				return err
			}
			for what, err := range map[string]error{
				"put":            put("/bob/stor/a/b/c/d/e/o", Condition{}),
				"put if absent":  put("/bob/stor/a/b/c/d/o", Absent()),
				"put just below": put(at+"/o", Condition{}),
				"mkdir -p":       c.MkdirAll(ctx, "/bob/stor/a/b/c"),
				"mkdir -p deep":  c.MkdirAll(ctx, "/bob/stor/a/b/c/d/e"),
				"mkdir":          c.Mkdir(ctx, at),
				"mkdir below":    c.Mkdir(ctx, at+"/d"),
			} {
				if !errors.Is(err, ErrNotDirectory) {
					t.Errorf("%s, object at %s: %v", what, at, err)
				}
			}
		}
		if info, err := first.Head(ctx, at); err != nil || info.IsDir() || info.ETag != kept.ETag {
			t.Errorf("%s is now %+v, %v", at, info, err)
		}
	}
}

func labListing(t *testing.T, c *Client, dir string, want int) {
	t.Helper()
	n := 0
	for e, err := range c.List(t.Context(), dir, ListOptions{Objects: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if e.MD5 == nil || e.ETag == "" {
			t.Errorf("%+v", e)
		}
	}
	if n != want {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.ServerTime(); !ok {
		t.Error("no server time")
	}
}

func TestTheLabPagesAsTheClientReads(t *testing.T) {
	c, set, _ := rehearsal(t, mantad.Config{})
	if err := c.MkdirAll(t.Context(), "/bob/stor/d"); err != nil {
		t.Fatal(err)
	}
	var want []string
	var wg sync.WaitGroup
	for i := range 2100 {
		name := fmt.Sprintf("%04d", i)
		want = append(want, name)
		wg.Go(func() {
			if _, err := c.Put(t.Context(), "/bob/stor/d/"+name, Bytes(name), PutOptions{SendMD5: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, reverse := range []bool{false, true} {
		if got, err := names(c, t, "/bob/stor/d", ListOptions{Reverse: reverse}); err != nil || !slices.Equal(got, want) {
			t.Errorf("reverse %v: %d names, %v", reverse, len(got), err)
		}
		slices.Reverse(want)
	}
	if got, err := names(c, t, "/bob/stor/d", ListOptions{SortMTime: true}); err != nil || len(got) != len(want) {
		t.Errorf("by time: %d names, %v", len(got), err)
	}
	for _, kind := range []fault.Kind{fault.EndlessListing, fault.RepeatListing, fault.NoContentMD5} {
		addFault(t, set, fault.Fault{Kind: kind})
		l := &lister{c: c, dir: "/bob/stor/d", page: pageSize, most: 50_000}
		err := l.run(t.Context(), func(e Info, _ error) bool {
			if kind == fault.NoContentMD5 && e.MD5 != nil {
				t.Errorf("%+v", e)
			}
			return true
		})
		if bad := kind != fault.NoContentMD5; errors.Is(err, ErrListing) != bad || !bad && err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		set.Clear()
	}
}

func addFault(t *testing.T, set *fault.Set, f fault.Fault) {
	t.Helper()
	if _, err := set.Add(f); err != nil {
		t.Fatal(err)
	}
}

// labCase is an operation under a fault; want nil means that it succeeds.
type labCase struct {
	f    fault.Fault
	op   func() error
	want error
}

func labFaults(t *testing.T, c *Client, set *fault.Set, put func(Condition) error, get func() error) map[string]labCase {
	ctx := t.Context()
	second := fault.Duration(time.Second)
	return map[string]labCase{
		"latency":                {fault.Fault{Kind: fault.Latency, Delay: fault.Duration(50 * time.Millisecond)}, get, nil},
		"503 twice":              {fault.Fault{Kind: fault.Status, Count: 2}, func() error { return put(Condition{}) }, nil},
		"503 for ever":           {fault.Fault{Kind: fault.Status}, func() error { return put(Condition{}) }, ErrUnavailable},
		"503, conditional":       {fault.Fault{Kind: fault.Status}, func() error { return put(Absent()) }, ErrUnavailable},
		"throttled":              {fault.Fault{Kind: fault.Throttle, Count: 2, RetryAfter: 1}, func() error { return put(Condition{}) }, nil},
		"throttled, conditional": {fault.Fault{Kind: fault.Throttle}, func() error { return put(Absent()) }, ErrThrottled},
		"reset":                  {fault.Fault{Kind: fault.Reset, Count: 2, Bytes: 1 << 20}, get, nil},
		"reset of an upload":     {fault.Fault{Kind: fault.Reset, Count: 2, Bytes: 1 << 20, Side: "request"}, func() error { return put(Condition{}) }, nil},
		"truncated":              {fault.Fault{Kind: fault.Truncate, Count: 1}, get, nil},
		"truncated for ever":     {fault.Fault{Kind: fault.Truncate, Bytes: 100}, get, io.ErrUnexpectedEOF},
		"short":                  {fault.Fault{Kind: fault.Short}, get, ErrChecksum},
		"corrupt":                {fault.Fault{Kind: fault.Corrupt}, get, ErrChecksum},
		"lost answer":            {fault.Fault{Kind: fault.LostAnswer, Count: 1}, func() error { return put(Condition{}) }, nil},
		"lost answer of a condition": {fault.Fault{Kind: fault.LostAnswer, Count: 1}, func() error {
			if err := c.Delete(ctx, "/bob/stor/w", Condition{}); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			set.Clear()
			addFault(t, set, fault.Fault{Kind: fault.LostAnswer, Count: 1})
			return put(Absent())
		}, ErrUnknownOutcome},
		"lost answer of a delete": {fault.Fault{Kind: fault.LostAnswer, Count: 1, Method: "DELETE"}, func() error {
			if err := put(Condition{}); err != nil {
				return err
			}
			return c.Delete(ctx, "/bob/stor/w", Condition{})
		}, nil},
		"stalled":                   {fault.Fault{Kind: fault.Stall, Count: 1, Delay: 5 * second}, get, nil},
		"hanging":                   {fault.Fault{Kind: fault.Hang, Count: 1, Delay: 5 * second}, get, nil},
		"partition":                 {fault.Fault{Kind: fault.Partition}, get, ErrUnavailable},
		"disk full":                 {fault.Fault{Kind: fault.DiskFull}, func() error { return put(Condition{}) }, ErrUnavailable},
		"key not known for a while": {fault.Fault{Kind: fault.KeyNotPropagated, For: second / 2}, get, nil},
		"key not known, conditional": {fault.Fault{Kind: fault.KeyNotPropagated, For: second / 2}, func() error {
			_, err := c.Put(ctx, "/bob/stor/k"+fmt.Sprint(time.Now().UnixNano()), Bytes("x"), PutOptions{If: Absent()})
			return err
		}, nil},
	}
}

func TestEveryFaultOfTheLabEndsRightOrInAClearError(t *testing.T) {
	c, set, _ := rehearsal(t, mantad.Config{}, func(cfg *Config) { cfg.AuthGrace = 3 * time.Second; cfg.HeaderTimeout = time.Second })
	ctx := t.Context()
	big := pattern(3 << 20)
	put := func(cond Condition) error {
		_, err := c.Put(ctx, "/bob/stor/w", Bytes(big), PutOptions{If: cond})
		return err
	}
	get := func() error {
		got, err := read(c, ctx, "/bob/stor/o", GetOptions{})
		if err == nil && !bytes.Equal(got, big) {
			return errors.New("silent loss: other bytes came back")
		}
		return err
	}
	if _, err := c.Put(ctx, "/bob/stor/o", Bytes(big), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range labFaults(t, c, set, put, get) {
		addFault(t, set, tc.f)
		start := time.Now()
		err := tc.op()
		if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		set.Clear()
	}
}

func TestAKeyOfTheLabThatSpreadsSlowlyIsWaitedFor(t *testing.T) {
	c, _, _ := rehearsal(t, mantad.Config{KeyDelay: time.Second}, func(cfg *Config) { cfg.AuthGrace = 5 * time.Second })
	for range 10 {
		if _, err := c.Head(t.Context(), "/bob/stor"); err != nil {
			t.Fatal(err)
		}
	}
}

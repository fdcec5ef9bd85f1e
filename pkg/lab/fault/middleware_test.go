package fault

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const size = 100_000

func content() []byte { return bytes.Repeat([]byte("0123456789"), size/10) }

func b64(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// backend is a small service behind the middleware, on a real socket.
type backend struct {
	t     *testing.T
	set   *Set
	url   string
	calls atomic.Int64
	body  atomic.Int64 // bytes of the last whole request body; -1 after a broken one
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, set: NewSet(1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: Middleware(Options{Set: b.set, Service: "test", Instance: "one"}, http.HandlerFunc(b.serve))}
	go srv.Serve(Listener(ln, b.set, "test", "one"))
	t.Cleanup(func() { srv.Close() })
	b.url = "http://" + ln.Addr().String()
	return b
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	b.calls.Add(1)
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		n = -1
	}
	b.body.Store(n)
	if r.URL.Path == "/missing" {
		http.Error(w, "no", 404)
		return
	}
	c := content()
	if r.URL.Path != "/stream" {
		w.Header().Set("Content-Length", strconv.Itoa(len(c)))
		w.Header().Set("Content-MD5", b64(c))
	}
	for len(c) > 0 {
		n := min(len(c), 7000)
		if _, err := w.Write(c[:n]); err != nil {
			return
		}
		c = c[n:]
	}
}

type result struct {
	status int
	header http.Header
	body   []byte
	err    error // of the request or the body
}

func (b *backend) do(method, path, body string) result {
	b.t.Helper()
	// A client of its own, so that no retry on a kept-alive connection hides a cut.
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return result{res.StatusCode, res.Header, got, err}
}

func (b *backend) with(f Fault) {
	b.t.Helper()
	b.set.Clear()
	mustAdd(b.t, b.set, f)
}

func TestWithoutFaultsTheMiddlewareChangesNothing(t *testing.T) {
	b := newBackend(t)
	if r := b.do("GET", "/x", ""); r.err != nil || !bytes.Equal(r.body, content()) || r.header.Get("Content-MD5") != b64(content()) {
		t.Errorf("%d %v %v", r.status, r.header, r.err)
	}
}

func TestStatusAndThrottleAnswerInsteadOfTheService(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Status, Status: 500, Count: 1})
	if r := b.do("PUT", "/x", "abc"); r.status != 500 || !strings.Contains(string(r.body), `"code":"InternalError"`) || b.calls.Load() != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	b.with(Fault{Kind: Throttle, RetryAfter: 3, Count: 1})
	if r := b.do("GET", "/x", ""); r.status != 503 || r.header.Get("Retry-After") != "3" || !strings.Contains(string(r.body), "ThrottledError") {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	if r := b.do("GET", "/x", ""); r.status != 200 {
		t.Errorf("after the fault: %d", r.status)
	}
}

func TestLatencyDelaysTheAnswer(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Latency, Delay: Duration(150 * time.Millisecond)})
	start := time.Now()
	if r := b.do("GET", "/x", ""); r.status != 200 || time.Since(start) < 150*time.Millisecond {
		t.Errorf("%d after %v", r.status, time.Since(start))
	}
}

func TestResetCutsTheResponseWhereItIsTold(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Reset})
	if r := b.do("GET", "/x", ""); r.err == nil || r.status != 0 {
		t.Errorf("at once: %d %v", r.status, r.err)
	}
	b.with(Fault{Kind: Reset, Bytes: 12345})
	r := b.do("GET", "/x", "")
	if r.status != 200 || r.err == nil || len(r.body) != 12345 || !bytes.Equal(r.body, content()[:12345]) {
		t.Errorf("mid-body: %d, %d bytes, %v", r.status, len(r.body), r.err)
	}
	var op *net.OpError
	if !errors.As(r.err, &op) && !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("not a connection error: %v", r.err)
	}
}

func TestResetCutsTheRequestWhereItIsTold(t *testing.T) {
	b := newBackend(t)
	for _, n := range []int64{0, 10, 1 << 20} {
		b.with(Fault{Kind: Reset, Side: "request", Bytes: n})
		r := b.do("PUT", "/x", strings.Repeat("x", 50_000))
		if r.err == nil {
			t.Errorf("%d: answered %d", n, r.status)
		}
		deadline := time.Now().Add(5 * time.Second)
		for b.body.Load() != -1 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if got := b.body.Load(); got != -1 {
			t.Errorf("%d: the service saw a whole body of %d bytes", n, got)
		}
		b.body.Store(0)
	}
}

func TestTruncateKeepsTheLengthAndCutsTheBody(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Truncate})
	r := b.do("GET", "/x", "")
	if r.status != 200 || !errors.Is(r.err, io.ErrUnexpectedEOF) || len(r.body) != size/2 || r.header.Get("Content-Length") != fmt.Sprint(size) {
		t.Errorf("%d, %d bytes, %v, %v", r.status, len(r.body), r.header, r.err)
	}
}

func TestShortLooksWhole(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Short, Bytes: 777})
	r := b.do("GET", "/x", "")
	if r.status != 200 || r.err != nil || len(r.body) != 777 || r.header.Get("Content-MD5") != b64(content()) {
		t.Errorf("%d, %d bytes, %v, %v", r.status, len(r.body), r.header, r.err)
	}
	b.with(Fault{Kind: Short, Bytes: 777})
	if r := b.do("GET", "/stream", ""); r.err != nil || len(r.body) != 777 {
		t.Errorf("without a length: %d bytes, %v", len(r.body), r.err)
	}
}

func TestCorruptAndLieDifferInTheMD5(t *testing.T) {
	b := newBackend(t)
	for kind, honest := range map[Kind]bool{Corrupt: true, Lie: false} {
		b.with(Fault{Kind: kind})
		r := b.do("GET", "/x", "")
		diff := 0
		for i, c := range content() {
			if len(r.body) == size && r.body[i] != c {
				diff++
			}
		}
		if r.err != nil || len(r.body) != size || diff != 1 {
			t.Errorf("%s: %d bytes, %d differ, %v", kind, len(r.body), diff, r.err)
		}
		if md := r.header.Get("Content-MD5"); (md == b64(content())) != honest || (md == b64(r.body)) == honest {
			t.Errorf("%s: content-md5 %s", kind, md)
		}
	}
}

func TestALostAnswerComesAfterTheEffect(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: LostAnswer})
	if r := b.do("PUT", "/x", "hello"); r.err == nil || b.calls.Load() != 1 || b.body.Load() != 5 {
		t.Errorf("%d, %d calls, body %d, %v", r.status, b.calls.Load(), b.body.Load(), r.err)
	}
}

func TestStallAndHangEnd(t *testing.T) {
	b := newBackend(t)
	wait := Duration(100 * time.Millisecond)
	start := time.Now()
	b.with(Fault{Kind: Stall, Delay: wait})
	if r := b.do("GET", "/x", ""); r.err == nil || time.Since(start) < time.Duration(wait) || b.calls.Load() != 0 {
		t.Errorf("stall: %d %v after %v", r.status, r.err, time.Since(start))
	}
	start = time.Now()
	b.with(Fault{Kind: Hang, Bytes: 100, Delay: wait})
	if r := b.do("GET", "/x", ""); r.err == nil || len(r.body) != 100 || time.Since(start) < time.Duration(wait) {
		t.Errorf("hang: %d bytes, %v after %v", len(r.body), r.err, time.Since(start))
	}
}

func TestAFaultThatFoundNothingToSpoilIsNotUsedUp(t *testing.T) {
	b := newBackend(t)
	b.with(Fault{Kind: Corrupt, Count: 1})
	if r := b.do("GET", "/missing", ""); r.status != 404 {
		t.Errorf("%d", r.status)
	}
	if r := b.do("GET", "/x", ""); bytes.Equal(r.body, content()) {
		t.Error("the fault was used up by the 404")
	}
}

func TestAPartitionCutsOpenConnectionsToo(t *testing.T) {
	b := newBackend(t)
	c := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	get := func() error {
		res, err := c.Get(b.url + "/x")
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	b.with(Fault{Kind: Partition, Service: "other"})
	if err := get(); err != nil {
		t.Errorf("another service's partition: %v", err)
	}
	b.with(Fault{Kind: Partition, Service: "test"})
	for range 3 {
		if err := get(); err == nil {
			t.Error("answered across a partition")
		}
	}
	b.set.Clear()
	if err := get(); err != nil {
		t.Errorf("after the partition: %v", err)
	}
	b.with(Fault{Kind: Partition, Path: "/x"})
	if r := b.do("GET", "/x", ""); r.err == nil {
		t.Error("a partition by path answered")
	}
	if r := b.do("GET", "/y", ""); r.err != nil {
		t.Errorf("another path: %v", r.err)
	}
}

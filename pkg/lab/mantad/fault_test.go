package mantad

import (
	"bufio"
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	faults "github.com/tritonops/tritonops/pkg/lab/fault"
)

// fetch makes a request over TLS on a connection of its own.
func (l *lab) fetch(method, path, body string) (*http.Response, []byte, error) {
	l.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := l.request(method, path, r, int64(len(body)))
	req.Close = true
	res, err := l.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

// TestFaultsReachClientsOverTLS: the lying ones look right, the others break.
func TestFaultsReachClientsOverTLS(t *testing.T) {
	l := newLab(t)
	for _, size := range []int{1000, 1_000_000} {
		body := strings.Repeat("x", size)
		l.mustPut("/admin/stor/o", body)
		for _, c := range []struct {
			kind            faults.Kind
			broken, md5Held bool
		}{
			{faults.Reset, true, false},
			{faults.Truncate, true, false},
			{faults.Short, false, false},
			{faults.Corrupt, false, false},
			{faults.Lie, false, true},
		} {
			if _, err := l.faults.Add(faults.Fault{Service: Service, Kind: c.kind, Path: "/admin/stor/*", Count: 1}); err != nil {
				t.Fatal(err)
			}
			res, got, err := l.fetch("GET", "/admin/stor/o", "")
			if (err != nil) != c.broken {
				t.Errorf("%s of %d: %d bytes, %v", c.kind, size, len(got), err)
			}
			if err == nil {
				sum := md5.Sum(got)
				held := res.Header.Get("Content-MD5") == base64.StdEncoding.EncodeToString(sum[:])
				if held != c.md5Held || string(got) == body {
					t.Errorf("%s of %d: md5 held %v, body right %v", c.kind, size, held, string(got) == body)
				}
			}
		}
		if _, got, err := l.fetch("GET", "/admin/stor/o", ""); err != nil || string(got) != body {
			t.Errorf("after the faults: %d bytes, %v", len(got), err)
		}
	}
}

func TestALostAnswerLeavesTheObject(t *testing.T) {
	l := newLab(t)
	for path, body := range map[string]string{"/admin/stor/small": "hello", "/admin/stor/large": strings.Repeat("x", 1<<20)} {
		if _, err := l.faults.Add(faults.Fault{Kind: faults.LostAnswer, Count: 1}); err != nil {
			t.Fatal(err)
		}
		if res, _, err := l.fetch("PUT", path, body); err == nil {
			t.Fatalf("answered %d", res.StatusCode)
		}
		if _, got, err := l.fetch("GET", path, ""); err != nil || string(got) != body {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
}

func TestARequestCutInTheBodyLeavesNothing(t *testing.T) {
	l := newLab(t)
	for _, at := range []int64{10, 300_000, 1 << 30} {
		if _, err := l.faults.Add(faults.Fault{Kind: faults.Reset, Side: "request", Bytes: at, Method: "PUT", Count: 1}); err != nil {
			t.Fatal(err)
		}
		if res, _, err := l.fetch("PUT", "/admin/stor/o", strings.Repeat("x", 1<<20)); err == nil {
			t.Fatalf("cut at %d: answered %d", at, res.StatusCode)
		}
		if res, _, err := l.fetch("HEAD", "/admin/stor/o", ""); err != nil || res.StatusCode != 404 {
			t.Errorf("cut at %d: %v %v", at, res, err)
		}
	}
}

func TestRequestsAreCountedAndReported(t *testing.T) {
	var mu sync.Mutex
	var log []Record
	l := newLab(t, func(c *Config) {
		c.OnRequest = func(r Record) { mu.Lock(); log = append(log, r); mu.Unlock() }
	})
	l.mustPut("/admin/stor/a%20b", "hello")
	l.do("GET", "/admin/stor/a%20b?x=1", "X-Request-Id: id-1")
	l.do("HEAD", "/admin/stor/none")
	wait(t, func() bool { return l.s.Stats().Total == 3 })
	s := l.s.ResetStats()
	if s.Methods["PUT"] != 1 || s.Methods["GET"] != 1 || s.Methods["HEAD"] != 1 || s.Statuses[404] != 1 || s.BytesIn != 5 || s.BytesOut != 5 {
		t.Errorf("%+v", s)
	}
	if n := l.s.Stats().Total; n != 0 {
		t.Errorf("after the reset: %d", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(log) != 3 || log[1].Path != "/admin/stor/a b" || log[1].Query != "x=1" || log[1].Status != 200 || log[1].BytesOut != 5 || log[1].RequestID != "id-1" {
		t.Errorf("%+v", log)
	}
}

// wait gives what happens after an answer was sent a moment.
func wait(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not come about in 5 s")
		}
	}
}

func TestFaultsOfTheServiceItself(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/stor/a", "x")
	add := func(f faults.Fault) {
		t.Helper()
		if _, err := l.faults.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	add(faults.Fault{Kind: faults.DiskFull, Count: 1})
	if a := l.put("/admin/stor/b", "x"); a.status != 507 || a.code() != "NotEnoughSpace" {
		t.Errorf("disk full: %d %s", a.status, a.body)
	}
	add(faults.Fault{Kind: faults.KeyNotPropagated, Count: 1})
	if a := l.do("GET", "/admin/stor/a"); a.status != 403 || a.code() != "KeyDoesNotExist" {
		t.Errorf("key: %d %s", a.status, a.body)
	}
	add(faults.Fault{Kind: faults.NoContentMD5, Count: 1})
	if a := l.do("GET", "/admin/stor"); strings.Contains(a.body, "contentMD5") {
		t.Errorf("listing with md5: %s", a.body)
	}
	if a := l.do("GET", "/admin/stor"); !strings.Contains(a.body, `"contentMD5":"`+md5Text("x")) {
		t.Errorf("listing without md5: %s", a.body)
	}
	l.mustPut("/admin/stor/c", "x")
	add(faults.Fault{Kind: faults.RepeatListing, Count: 1})
	if got := entryNames(t, l.do("GET", "/admin/stor?limit=1&marker=c").body); len(got) != 1 || got[0] != "a" {
		t.Errorf("repeated listing: %v", got)
	}
	add(faults.Fault{Kind: faults.EndlessListing, Count: 1})
	c := l.dial()
	defer c.Close()
	io.WriteString(c, l.head("GET", "/admin/stor")+"\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, res.Body, 4<<20); err != nil {
		t.Errorf("the endless listing ended after %d bytes: %v", n, err)
	}
}

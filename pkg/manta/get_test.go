package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// cut answers like an object of the given content, but sends only n bytes of it,
// by the framing chosen, and hangs up.
func cut(w http.ResponseWriter, r *http.Request, o *object, n int, framing string) {
	c, bw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	sum := md5.Sum(o.data)
	fmt.Fprintf(bw, "HTTP/1.1 200 OK\r\nEtag: %s\r\nContent-Md5: %s\r\nContent-Type: text/plain\r\n", o.etag, formatMD5(sum[:]))
	switch framing {
	case "length":
		fmt.Fprintf(bw, "Content-Length: %d\r\n\r\n", len(o.data))
		bw.Write(o.data[:n])
	case "chunked, cut":
		fmt.Fprintf(bw, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(o.data))
		bw.Write(o.data[:n])
	case "chunked, ended cleanly":
		fmt.Fprintf(bw, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", n)
		bw.Write(o.data[:n])
		fmt.Fprint(bw, "\r\n0\r\n\r\n")
	case "until close":
		fmt.Fprint(bw, "Connection: close\r\n\r\n")
		bw.Write(o.data[:n])
	}
	bw.Flush()
}

func read(c *Client, ctx context.Context, path string, o GetOptions) ([]byte, error) {
	ob, err := c.Get(ctx, path, o)
	if err != nil {
		return nil, err
	}
	defer ob.Close()
	return io.ReadAll(ob)
}

func TestGetReturnsTheBytesAndRangesOfThem(t *testing.T) {
	f := newFront(t, true)
	c := f.client()
	data := pattern(3 << 20)
	o := f.put("/bob/stor/o", data)
	got, err := read(c, t.Context(), "/bob/stor/o", GetOptions{ETag: o.etag})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, tc := range []struct{ off, n, from, to int64 }{{1, 0, 1, 3 << 20}, {0, 5, 0, 5}, {3<<20 - 2, 10, 3<<20 - 2, 3 << 20}} {
		got, err := read(c, t.Context(), "/bob/stor/o", GetOptions{Offset: tc.off, Length: tc.n})
		if err != nil || !bytes.Equal(got, data[tc.from:tc.to]) {
			t.Errorf("%+v: %d bytes, %v", tc, len(got), err)
		}
	}
	if _, err := read(c, t.Context(), "/bob/stor/o", GetOptions{ETag: "another"}); !errors.Is(err, ErrPrecondition) {
		t.Errorf("another version: %v", err)
	}
	if _, err := read(c, t.Context(), "/bob/stor/none", GetOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := read(c, t.Context(), "/bob/stor", GetOptions{}); err == nil {
		t.Error("a directory was read as an object")
	}
	empty := f.put("/bob/stor/empty", nil)
	if got, err := read(c, t.Context(), "/bob/stor/empty", GetOptions{}); err != nil || len(got) != 0 {
		t.Errorf("empty object %v: %v", empty.etag, err)
	}
}

func TestATransferCutShortIsNeverTheEnd(t *testing.T) {
	data := pattern(100_000)
	for _, framing := range []string{"length", "chunked, cut", "chunked, ended cleanly", "until close"} {
		for _, n := range []int{0, 1, 50_000, 99_999} {
			f := newFront(t, false)
			o := f.put("/bob/stor/o", data)
			f.fault = func(w http.ResponseWriter, r *http.Request) bool { cut(w, r, o, n, framing); return true }
			got, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{})
			if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrChecksum) {
				t.Errorf("%s after %d: %d bytes, error %v", framing, n, len(got), err)
			}
		}
		f := newFront(t, false)
		o := f.put("/bob/stor/o", data)
		f.fault = func(w http.ResponseWriter, r *http.Request) bool { cut(w, r, o, len(data), framing); return true }
		if got, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{}); framing != "chunked, cut" && (err != nil || !bytes.Equal(got, data)) {
			t.Errorf("%s, whole: %d bytes, %v", framing, len(got), err)
		}
	}
}

func TestWrongBytesOfTheRightLengthAreFound(t *testing.T) {
	f := newFront(t, false)
	o := f.put("/bob/stor/o", pattern(200_000))
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		sum := md5.Sum(o.data)
		w.Header().Set("Content-Md5", formatMD5(sum[:]))
		w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		bad := bytes.Clone(o.data)
		bad[123_456] ^= 1
		w.Write(bad)
		return true
	}
	c := f.client()
	ob, err := c.Get(t.Context(), "/bob/stor/o", GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ob.Close()
	if n, err := io.Copy(io.Discard, ob); !errors.Is(err, ErrChecksum) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := ob.Read(make([]byte, 1)); !errors.Is(err, ErrChecksum) {
		t.Errorf("the verdict changed to %v", err)
	}
}

func TestWithoutLengthAndMD5AnEndIsNotBelieved(t *testing.T) {
	f := newFront(t, false)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		c, bw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return true
		}
		fmt.Fprint(bw, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
		bw.Flush()
		c.Close()
		return true
	}
	if _, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{}); !errors.Is(err, ErrChecksum) {
		t.Errorf("error %v", err)
	}
}

func TestABrokenTransferIsResumedWhereItBroke(t *testing.T) {
	data := pattern(6 << 20)
	for _, tls := range []bool{false, true} {
		f := newFront(t, tls)
		o := f.put("/bob/stor/o", data)
		var n atomic.Int32
		f.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if n.Add(1) == 1 {
				cut(w, r, o, 2<<20+77, "length")
				return true
			}
			if r.Header.Get("If-Match") != o.etag {
				t.Errorf("resumed without the etag: %v", r.Header)
			}
			return false
		}
		got, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{})
		if err != nil || !bytes.Equal(got, data) || n.Load() != 2 {
			t.Errorf("tls %v: %d bytes, %v, %d requests", tls, len(got), err, n.Load())
		}
	}
}

func TestAnObjectThatChangedIsNotResumed(t *testing.T) {
	f := newFront(t, false)
	o := f.put("/bob/stor/o", pattern(1<<20))
	var n atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		f.put("/bob/stor/o", pattern(2<<20))
		cut(w, r, o, 1000, "length")
		return true
	}
	_, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, ErrPrecondition) {
		t.Errorf("error %v", err)
	}
}

func TestAServerThatDripsOrIgnoresRangesIsGivenUp(t *testing.T) {
	for name, drip := range map[string]bool{"drips": true, "ignores ranges": false} {
		f := newFront(t, false)
		o := f.put("/bob/stor/o", pattern(1<<20))
		var n atomic.Int32
		f.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if n.Add(1) == 1 || !drip {
				cut(w, r, o, 1000, "length")
				return true
			}
			var from int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			c, bw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return true
			}
			fmt.Fprintf(bw, "HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\nx",
				o.etag, from, len(o.data)-1, len(o.data), len(o.data)-from)
			bw.Flush()
			c.Close()
			return true
		}
		_, err := read(f.client(), t.Context(), "/bob/stor/o", GetOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) || n.Load() > 6 {
			t.Errorf("%s: %d requests, %v", name, n.Load(), err)
		}
	}
}

func TestASilentServerIsNotWaitedForForEver(t *testing.T) {
	f := newFront(t, false)
	hold := make(chan struct{})
	defer close(hold)
	o := f.put("/bob/stor/o", pattern(1<<20))
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		w.Write(o.data[:1000])
		w.(http.Flusher).Flush()
		<-hold
		return true
	}
	c := f.client(func(cfg *Config) { cfg.HeaderTimeout = 100 * time.Millisecond })
	done := make(chan error, 1)
	go func() { _, err := read(c, t.Context(), "/bob/stor/o", GetOptions{}); done <- err }()
	select {
	case err := <-done:
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still waiting")
	}
}

func TestContextEndsAReader(t *testing.T) {
	f := newFront(t, false)
	hold := make(chan struct{})
	defer close(hold)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte("abc"))
		w.(http.Flusher).Flush()
		<-hold
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := read(f.client(), ctx, "/bob/stor/o", GetOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestManyReadersAndWritersShareAClient(t *testing.T) {
	f := newFront(t, true)
	c := f.client(func(cfg *Config) { cfg.Parallel = 8 })
	done := make(chan error)
	for i := range 32 {
		go func() {
			p := fmt.Sprintf("/bob/stor/d%d/x/o", i%5)
			data := pattern(1000 * i * i)
			done <- func() error {
				p += strconv.Itoa(i)
				if _, err := c.Put(t.Context(), p, Bytes(data), PutOptions{Parents: true, SendMD5: i%2 == 0}); err != nil {
					return err
				}
				ob, err := c.Get(t.Context(), p, GetOptions{})
				if err != nil {
					return err
				}
				defer ob.Close()
				// A reader that is open takes no slot from this Head.
				if _, err := c.Head(t.Context(), p); err != nil {
					return err
				}
				got, err := io.ReadAll(ob)
				if err == nil && !bytes.Equal(got, data) {
					err = errors.New("other bytes came back")
				}
				if _, ok := c.ServerTime(); !ok && err == nil {
					err = errors.New("no server time")
				}
				return err
			}()
		}()
	}
	for range 32 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

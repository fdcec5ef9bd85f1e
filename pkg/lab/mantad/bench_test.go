package mantad

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSmallPut measures 2 KiB objects over TLS on 16 kept-alive connections,
// client and server in one process.
func BenchmarkSmallPut(b *testing.B) {
	l := newLab(b)
	l.mkdir("/admin/stor/b")
	data := bytes.Repeat([]byte("x"), 2048)
	date := time.Now().UTC().Format(http.TimeFormat)
	authz := l.key.authorization(b, owner, date)
	var next atomic.Int64
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				r, err := http.NewRequest("PUT", fmt.Sprintf("https://%s/admin/stor/b/o%07d", l.tls, i), bytes.NewReader(data))
				if err != nil {
					b.Error(err)
					return
				}
				r.Header.Set("Date", date)
				r.Header.Set("Authorization", authz)
				res, err := l.client.Do(r)
				if err != nil || res.StatusCode != 204 {
					b.Errorf("put: %v %v", res, err)
					return
				}
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "put/s")
}

// BenchmarkLargePut measures one large object after the other over TLS.
func BenchmarkLargePut(b *testing.B) {
	l := newLab(b)
	const size = 1 << 30
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		r := l.request("PUT", "/admin/stor/large", zeros{size}.reader(), size)
		res, err := l.client.Do(r)
		if err != nil || res.StatusCode != 204 {
			b.Fatalf("put: %v %v", res, err)
		}
		res.Body.Close()
	}
}

// BenchmarkLargeGet reads the object back over TLS.
func BenchmarkLargeGet(b *testing.B) {
	l := newLab(b)
	const size = 256 << 20
	res, err := l.client.Do(l.request("PUT", "/admin/stor/large", zeros{size}.reader(), size))
	if err != nil || res.StatusCode != 204 {
		b.Fatalf("put: %v %v", res, err)
	}
	res.Body.Close()
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		res, err := l.client.Do(l.request("GET", "/admin/stor/large", nil, 0))
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
			b.Fatal(n, err)
		}
		res.Body.Close()
	}
}

// zeros is a body made without memory.
type zeros struct{ n int64 }

func (z zeros) reader() io.Reader { return io.LimitReader(zeroReader{}, z.n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return len(p), nil }

// BenchmarkMillionEntries fills one directory with a million entries, opens the
// state again and pages through the whole listing.
func BenchmarkMillionEntries(b *testing.B) {
	const n = 1_000_000
	for range b.N {
		l := newLab(b)
		start := time.Now()
		for i := range n {
			e := &entry{id: newID(), ctype: "application/octet-stream", mtime: int64(i), copies: 2}
			if err := l.s.store.put(fmt.Sprintf("/admin/stor/object-%07d", i), e, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "fill-s")
		start = time.Now()
		got, marker := 0, ""
		for {
			_, body, err := l.fetch("GET", "/admin/stor?limit=1024&marker="+marker, "")
			if err != nil {
				b.Fatal(err)
			}
			names := entryNames(b, string(body))
			got += len(names)
			if len(names) < 1024 {
				break
			}
			got--
			marker = names[len(names)-1]
		}
		if got != n {
			b.Fatal(got)
		}
		b.ReportMetric(time.Since(start).Seconds(), "list-s")
		l.s.Close()
		l.s.store = nil
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start = time.Now()
		s, err := openStore(l.s.cfg.Dir)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "open-s")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/entry")
		s.close()
	}
}

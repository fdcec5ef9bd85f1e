package manta

import (
	"crypto/md5"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

var uploadSize = flag.Int64("upload", 64<<20, "bytes of the benchmark's upload; 2147483648 for the real one")

// hasher is a TLS server that hashes what it is sent, as Manta does, and keeps
// nothing.
func hasher(b *testing.B) *httptest.Server {
	b.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := md5.New()
		if _, err := io.CopyBuffer(h, struct{ io.Reader }{r.Body}, make([]byte, 256<<10)); err != nil {
			return
		}
		w.Header().Set("Etag", "e")
		w.Header().Set("Computed-Md5", formatMD5(h.Sum(nil)))
		w.WriteHeader(204)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	srv.StartTLS()
	b.Cleanup(srv.Close)
	return srv
}

func benchClient(b *testing.B, url string) *Client {
	b.Helper()
	c, err := New(Config{URL: url, Account: "bob", Insecure: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

type benchFile struct {
	path string
	size int64
}

func (f benchFile) Open() (io.ReadCloser, error) { return os.Open(f.path) }
func (f benchFile) Size() int64                  { return f.size }

// BenchmarkUpload sends one large file beside curl -T, in turns. The metric
// of-curl is our best rate divided by curl's best. Client and server share the
// machine, and both hash: with fewer than two idle cores our MD5 takes from the
// server's time and the figure tells nothing.
func BenchmarkUpload(b *testing.B) {
	srv := hasher(b)
	c := benchClient(b, srv.URL)
	f := benchFile{filepath.Join(b.TempDir(), "f"), *uploadSize}
	out, err := os.Create(f.path)
	if err != nil {
		b.Fatal(err)
	}
	chunk := pattern(1 << 20)
	for left := f.size; left > 0; left -= int64(len(chunk)) {
		if _, err := out.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		b.Log("curl is not here: no ratio")
	}
	b.SetBytes(f.size)
	ours, theirs := time.Duration(1<<62), time.Duration(1<<62)
	for b.Loop() {
		start := time.Now()
		if _, err := c.Put(b.Context(), "/bob/stor/f", f, PutOptions{}); err != nil {
			b.Fatal(err)
		}
		ours = min(ours, time.Since(start))
		if curl == "" {
			continue
		}
		b.StopTimer()
		start = time.Now()
		if out, err := exec.Command(curl, "-skf", "-T", f.path, srv.URL+"/bob/stor/f").CombinedOutput(); err != nil {
			b.Fatalf("curl: %v: %s", err, out)
		}
		theirs = min(theirs, time.Since(start))
		b.StartTimer()
	}
	if curl != "" {
		b.ReportMetric(theirs.Seconds()/ours.Seconds(), "of-curl")
	}
}

// BenchmarkSmallPut sends manifests of 1.5 KB over kept connections.
func BenchmarkSmallPut(b *testing.B) {
	srv := hasher(b)
	signer, err := NewSigner(testKey(b), "bob", "")
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Config{URL: srv.URL, Account: "bob", Insecure: true, Signer: signer})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	data := Bytes(pattern(1500))
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Put(b.Context(), "/bob/stor/m"+strconv.FormatInt(n.Add(1), 10), data, PutOptions{SendMD5: true}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkDownload reads one large object, verified.
func BenchmarkDownload(b *testing.B) {
	data := pattern(16 << 20)
	sum := md5.Sum(data)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Md5", formatMD5(sum[:]))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
	}))
	defer srv.Close()
	c := benchClient(b, srv.URL)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		o, err := c.Get(b.Context(), "/bob/stor/o", GetOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, o, make([]byte, 128<<10)); err != nil {
			b.Fatal(err)
		}
		o.Close()
	}
}

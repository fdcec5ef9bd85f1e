package manta

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// hanging is a source whose Read returns what it has and then nothing for long.
type hanging struct {
	data    []byte
	size    int64
	reached chan struct{} // closed when Read hangs
	release chan struct{}
	closed  chan struct{}
}

func (h *hanging) Size() int64                  { return h.size }
func (h *hanging) Open() (io.ReadCloser, error) { return h, nil }
func (h *hanging) Close() error                 { close(h.closed); return nil }

func (h *hanging) Read(p []byte) (int, error) {
	if n := copy(p, h.data); n > 0 {
		h.data = h.data[n:]
		return n, nil
	}
	close(h.reached)
	<-h.release
	return 0, io.ErrUnexpectedEOF
}

func TestACancelledPutDoesNotWaitForItsSource(t *testing.T) {
	for _, tls := range []bool{false, true} {
		for _, size := range []int64{100, expectOver + 1, 8 << 20} {
			f := newFront(t, tls)
			src := &hanging{data: pattern(int(size / 2)), size: size,
				reached: make(chan struct{}), release: make(chan struct{}), closed: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := f.client().Put(ctx, "/bob/stor/o", src, PutOptions{If: Absent()})
				done <- err
			}()
			<-src.reached
			time.Sleep(20 * time.Millisecond) // so that what was read is on its way
			cancel()
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrSource) {
					t.Errorf("%d bytes: %v", size, err)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%d bytes: still waiting for the source", size)
			}
			close(src.release)
			select {
			case <-src.closed:
			case <-time.After(5 * time.Second):
				t.Errorf("%d bytes: the source was not closed once its Read had returned", size)
			}
		}
	}
}

// opened counts how often a source was opened.
type opened struct {
	Bytes
	n *atomic.Int32
}

func (o opened) Open() (io.ReadCloser, error) { o.n.Add(1); return o.Bytes.Open() }

func TestABelievedMD5SavesHashingAndIsNeverTakenForTheTruth(t *testing.T) {
	data := pattern(3*chunkSize*maxChunks + 5)
	sum, other := md5.Sum(data), md5.Sum([]byte("other"))
	broken := func(w http.ResponseWriter, r *http.Request) bool { // stores something else
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Etag", "e")
		w.Header().Set("Computed-Md5", formatMD5(other[:]))
		w.WriteHeader(204)
		return true
	}
	for name, tc := range map[string]struct {
		believed []byte
		noMD5    bool
		fault    func(http.ResponseWriter, *http.Request) bool
		want     error
		opens    int32
	}{
		"right":                             {believed: sum[:], opens: 1},
		"right, told by HEAD":               {believed: sum[:], noMD5: true, opens: 1},
		"wrong":                             {believed: other[:], opens: 2},
		"wrong, told by HEAD":               {believed: other[:], noMD5: true, opens: 2},
		"right, and the service stores not": {believed: sum[:], fault: broken, want: ErrChecksum, opens: 2},
		"not an MD5":                        {believed: []byte("x"), want: ErrSource},
	} {
		f := newFront(t, true)
		f.noMD5, f.fault = tc.noMD5, tc.fault
		src := opened{data, new(atomic.Int32)}
		info, err := f.client().Put(t.Context(), "/bob/stor/o", src, PutOptions{If: Absent(), Believed: tc.believed})
		if !errors.Is(err, tc.want) || tc.want == nil && (err != nil || !bytes.Equal(info.MD5, sum[:])) {
			t.Errorf("%s: %x, %v", name, info.MD5, err)
		}
		if n := src.n.Load(); n != tc.opens {
			t.Errorf("%s: opened %d times, not %d", name, n, tc.opens)
		}
	}
}

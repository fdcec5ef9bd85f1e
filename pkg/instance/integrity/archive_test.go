package integrity

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/peers"
	"github.com/ulikunitz/xz"
)

// "hello hello hello\n" as the real programs pack it.
const (
	bz2Hex      = "425a6839314159265359e5b5f3090000045100001040000244a00021b5180c029069c2a30bb9229c284872daf98480"
	xzHex       = "fd377a585a000004e6d6b4460200210116000000742fe5a3e00011000c5d00341949ee8de94f7e2121b000001f01d9c887c143c800012812c96a628e1fb6f37d010000000004595a"
	xzX86Hex    = "fd377a585a000004e6d6b44602010400210116000d86351fe00011000c5d00341949ee8de94f7e2121b000001f01d9c887c143c800012812c96a628e1fb6f37d010000000004595a"
	xzDict256MB = "fd377a585a000004e6d6b4460200210120000000" + "0988a576e00011000c5d00341949ee8de94f7e2121b000001f01d9c887c143c800012812c96a628e1fb6f37d010000000004595a"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gz(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// cases are archives with what gzip -t, bzip2 -t and xz -t say about them.
func cases(t testing.TB) []archiveCase {
	g, b, x := gz(t, "hello"), fromHex(t, bz2Hex), fromHex(t, xzHex)
	damaged := func(a []byte, at int) []byte {
		c := bytes.Clone(a)
		c[at] ^= 0x40
		return c
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	zeros := make([]byte, 512)
	return []archiveCase{
		{"gzip", "whole", g, ok},
		{"gzip", "two members", cat(g, g), ok},
		{"gzip", "zeros after it", cat(g, zeros), ok},
		{"gzip", "one zero after it", cat(g, zeros[:1]), ok},
		{"gzip", "garbage after it", cat(g, []byte("garbage")), warned},
		{"gzip", "garbage after zeros", cat(g, zeros, []byte("x")), warned},
		{"gzip", "cut", g[:len(g)-3], bad},
		{"gzip", "only a header", g[:10], bad},
		{"gzip", "wrong checksum", damaged(g, len(g)-6), bad},
		{"gzip", "damaged in the middle", damaged(g, 12), bad},
		{"gzip", "second member cut", cat(g, g[:15]), bad},
		{"gzip", "second member of unknown method", cat(g, []byte("\x1f\x8b\x09"), zeros), bad},
		{"bzip2", "whole", b, ok},
		{"bzip2", "two streams", cat(b, b), ok},
		{"bzip2", "garbage after it", cat(b, []byte("garbage")), warned},
		{"bzip2", "zeros after it", cat(b, zeros), warned},
		{"bzip2", "cut", b[:len(b)-3], bad},
		{"bzip2", "wrong checksum", damaged(b, len(b)-3), bad},
		{"bzip2", "only a header", b[:4], bad},
		{"xz", "whole", x, ok},
		{"xz", "two streams", cat(x, x), ok},
		{"xz", "stream padding", cat(x, zeros), ok},
		{"xz", "garbage after it", cat(x, []byte("garbage")), bad},
		{"xz", "cut", x[:len(x)-3], bad},
		{"xz", "wrong checksum", damaged(x, len(x)-30), bad},
		{"xz", "only a header", x[:12], bad},
	}
}

type outcome string

const (
	ok     outcome = "ok"
	warned outcome = "warned"
	bad    outcome = "bad"
)

type archiveCase struct {
	format, name string
	content      []byte
	want         outcome
}

func outcomeOf(v archiveVerdict) outcome {
	switch {
	case v.err != nil:
		return bad
	case v.warning != "":
		return warned
	}
	return ok
}

func TestArchivesAreTestedLikeTheRealProgramsDo(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.format+" "+c.name, func(t *testing.T) {
			if f := Format(c.content); f != c.format {
				t.Fatalf("format %q", f)
			}
			v := testArchive(c.format, bufio.NewReader(bytes.NewReader(c.content)))
			if outcomeOf(v) != c.want {
				t.Errorf("%s, want %s: %v %q", outcomeOf(v), c.want, v.err, v.warning)
			}
		})
	}
}

// The table above is itself checked against the real programs, where they are.
func TestTheRealProgramsAgreeWithTheTable(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.format+" "+c.name, func(t *testing.T) {
			program := peers.Need(t, c.format)
			path := filepath.Join(t.TempDir(), "f."+map[string]string{"gzip": "gz", "bzip2": "bz2", "xz": "xz"}[c.format])
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(program, "-t", path).CombinedOutput()
			got := ok
			switch {
			case err == nil && bytes.Contains(out, []byte("trailing garbage")):
				got = warned // bzip2
			case err != nil && err.(*exec.ExitError).ExitCode() == 2 && c.format == "gzip":
				got = warned
			case err != nil:
				got = bad
			}
			if got != c.want {
				t.Errorf("%s says %s (%v), the table %s: %s", program, got, err, c.want, out)
			}
		})
	}
}

func TestXZThatCannotBeTriedHereIsAWarning(t *testing.T) {
	for name, s := range map[string]string{"filter other than LZMA2": xzX86Hex, "dictionary of 256 MiB": xzDict256MB} {
		b := fromHex(t, s)
		v, err := Verify(t.Context(), bytes.NewReader(b), describe(b, "xz"), nil)
		if err != nil || len(v.Problems) != 0 || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], name) {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
}

func TestLargeArchivesOfEveryFormatPass(t *testing.T) {
	text := strings.Repeat("a line of a large image file\n", 100_000)
	var x bytes.Buffer
	w, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(text))
	w.Close()
	for format, b := range map[string][]byte{"gzip": gz(t, text), "xz": x.Bytes()} {
		v, err := Verify(t.Context(), bytes.NewReader(b), describe(b, format), nil)
		if err != nil || len(v.Problems)+len(v.Warnings) != 0 {
			t.Errorf("%s: %+v %v", format, v, err)
		}
	}
}

// Whatever the archive test does (fails at once, is cut off by a broken stream or
// a cancelled context), its goroutine ends.
func TestNoGoroutineOutlivesAVerify(t *testing.T) {
	before := runtime.NumGoroutine()
	g := gz(t, strings.Repeat("x", 10_000))
	long := append(bytes.Clone(g[:20]), make([]byte, 3*chunk)...)
	for range 50 {
		Verify(t.Context(), bytes.NewReader(long), describe(long, "gzip"), nil)
		Verify(t.Context(), brokenAfter(g[:20]), instance.File{}, nil)
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func brokenAfter(b []byte) *brokenAfterReader { return &brokenAfterReader{b} }

type brokenAfterReader struct{ b []byte }

func (r *brokenAfterReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// Memory of a check does not depend on the file's size or on what it unpacks to.
func TestVerifyIsFlat(t *testing.T) {
	bomb := gz(t, string(make([]byte, 64<<20)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if v, err := Verify(t.Context(), bytes.NewReader(bomb), describe(bomb, "gzip"), nil); err != nil || len(v.Problems) > 0 {
		t.Fatal(v, err)
	}
	runtime.ReadMemStats(&after)
	if d := after.TotalAlloc - before.TotalAlloc; d > 4<<20 {
		t.Errorf("%d KiB allocated for %d KiB that unpack to 64 MiB", d>>10, len(bomb)>>10)
	}
}

func FuzzArchive(f *testing.F) {
	for _, c := range cases(f) {
		f.Add(c.content)
	}
	f.Add(fromHex(f, xzX86Hex))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		if d := xzDict(bufio.NewReader(bytes.NewReader(b))); d < 0 {
			t.Errorf("dictionary of %d", d)
		}
		v, err := Verify(t.Context(), bytes.NewReader(b), describe(b, ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range append(v.Problems, v.Warnings...) {
			if strings.ContainsAny(p, "\n\x00") || strings.Contains(p, "sha1") {
				t.Errorf("%q", p)
			}
		}
	})
}

func BenchmarkVerifyGzip(b *testing.B) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	g := gz(b, string(data))
	want := describe(g, "gzip")
	b.SetBytes(int64(len(g)))
	for b.Loop() {
		if v, err := Verify(b.Context(), bytes.NewReader(g), want, nil); err != nil || len(v.Problems) > 0 {
			b.Fatal(v, err)
		}
	}
}

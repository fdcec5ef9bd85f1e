package integrity

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// magics are the first bytes of the archive formats, as the server's own check
// knows them.
var magics = []struct{ format, bytes string }{
	{"bzip2", "BZh"},
	{"gzip", "\x1f\x8b\x08"},
	{"xz", "\xfd7zXZ\x00"},
}

// Format names the archive format that content beginning like this has: "gzip",
// "bzip2", "xz", or "" for none of them.
func Format(first []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(first, []byte(m.bytes)) {
			return m.format
		}
	}
	return ""
}

// maxXZDict is the largest dictionary an xz archive is unpacked with; "xz -9"
// makes 64 MiB.
const maxXZDict = 128 << 20

// archiveVerdict is the outcome of unpacking to nowhere: what `gzip -t` and its
// likes say.
type archiveVerdict struct {
	err     error  // it does not unpack
	warning string // it does, with a remark; or it could not be tried
}

// safely turns a panic of an unpacking library, whose input may be hostile, into a
// finding about this one file.
func safely(format string, r *bufio.Reader) (v archiveVerdict) {
	defer func() {
		if p := recover(); p != nil {
			v = archiveVerdict{err: fmt.Errorf("the unpacker gave up: %v", p)}
		}
	}()
	return testArchive(format, r)
}

func testArchive(format string, r *bufio.Reader) archiveVerdict {
	switch format {
	case "gzip":
		return testGzip(r)
	case "bzip2":
		return testBzip2(r)
	}
	return testXZ(r)
}

// drain unpacks to nowhere.
func drain(r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		if _, err := r.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return tidy(err)
		}
	}
}

// tidy words the errors of three libraries alike.
func tidy(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("ends in the middle")
	}
	text := err.Error()
	for _, p := range []string{"gzip: ", "flate: ", "bzip2 data invalid: ", "xz: ", "lzma: "} {
		text = strings.TrimPrefix(text, p)
	}
	return errors.New(text)
}

const trailingGarbage = "bytes after its end, which unpackers pass over"

// testGzip unpacks all members. Like gzip -t it takes zeros after the last one
// (padding of tapes) as nothing and anything else as a warning.
func testGzip(r *bufio.Reader) archiveVerdict {
	zr, err := gzip.NewReader(r)
	for err == nil {
		zr.Multistream(false)
		if err = drain(zr); err != nil {
			break
		}
		next, _ := r.Peek(2)
		if len(next) == 0 {
			return archiveVerdict{}
		}
		if !bytes.Equal(next, []byte{0x1f, 0x8b}) {
			return afterEnd(r)
		}
		err = zr.Reset(r)
	}
	return archiveVerdict{err: tidy(err)}
}

// afterEnd looks at what follows the last member.
func afterEnd(r *bufio.Reader) archiveVerdict {
	for {
		switch b, err := r.ReadByte(); {
		case err == io.EOF:
			return archiveVerdict{}
		case err != nil:
			return archiveVerdict{err: err}
		case b != 0:
			return archiveVerdict{warning: trailingGarbage}
		}
	}
}

// testBzip2 unpacks all streams. Like bzip2 -t it passes over what follows the
// last one; a single byte there cannot be told from a cut-off stream.
func testBzip2(r *bufio.Reader) archiveVerdict {
	err := drain(bzip2.NewReader(r))
	// The library's text for a following stream that does not begin like one.
	if err != nil && strings.HasSuffix(err.Error(), "in continuation file") {
		return archiveVerdict{warning: trailingGarbage}
	}
	return archiveVerdict{err: err}
}

// testXZ unpacks all streams and checks their checksums. Filters other than LZMA2
// and huge dictionaries cannot be tried here.
func testXZ(r *bufio.Reader) archiveVerdict {
	if d := xzDict(r); d > maxXZDict {
		return archiveVerdict{warning: fmt.Sprintf("not unpacked: it asks for a dictionary of %d MiB", d>>20)}
	}
	end := &tailReader{r: r}
	zr, err := xz.NewReader(end)
	if err == nil {
		err = drain(zr)
	} else {
		err = tidy(err)
	}
	// The library takes a stream cut between two blocks for a whole one (v0.5.17);
	// every stream ends with a footer, whose last bytes are these.
	if err == nil && end.last != [2]byte{'Y', 'Z'} {
		err = errors.New("ends in the middle")
	}
	if err != nil && (err.Error() == "invalid filter id" || err.Error() == "unsupported filter count") {
		return archiveVerdict{warning: "not unpacked: it uses a filter other than LZMA2"}
	}
	return archiveVerdict{err: err}
}

// tailReader keeps the last two bytes before trailing zeros.
type tailReader struct {
	r    *bufio.Reader
	last [2]byte
}

func (t *tailReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	switch b := bytes.TrimRight(p[:n], "\x00"); {
	case len(b) >= 2:
		copy(t.last[:], b[len(b)-2:])
	case len(b) == 1:
		t.last = [2]byte{t.last[1], b[0]}
	}
	return n, err
}

// xzDict reads the dictionary size from the first block header (XZ file format
// 1.1.0, sections 3.1 and 5.3.1), 0 where it finds none: then the unpacker says
// what is wrong.
func xzDict(r *bufio.Reader) int64 {
	const streamHeader, lzma2 = 12, 0x21
	h, _ := r.Peek(streamHeader + 1024)
	if len(h) < streamHeader+2 {
		return 0
	}
	h = h[streamHeader:]
	size := (int(h[0]) + 1) * 4
	if h[0] == 0 || size > len(h) {
		return 0
	}
	flags, fields := h[1], bytes.NewReader(h[2:size-4])
	for _, present := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		if present {
			if _, err := xzInt(fields); err != nil {
				return 0
			}
		}
	}
	for range flags&3 + 1 {
		id, err1 := xzInt(fields)
		n, err2 := xzInt(fields)
		props := make([]byte, min(n, uint64(fields.Len())))
		_, err3 := io.ReadFull(fields, props)
		if errors.Join(err1, err2, err3) != nil {
			return 0
		}
		if id == lzma2 && len(props) == 1 {
			d, _ := lzma.DecodeDictCap(props[0])
			return d
		}
	}
	return 0
}

// xzInt reads a multibyte integer (section 1.2): seven bits a byte, least first.
func xzInt(r io.ByteReader) (uint64, error) {
	var x uint64
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		x |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return x, nil
		}
	}
	return 0, errors.New("number too long")
}

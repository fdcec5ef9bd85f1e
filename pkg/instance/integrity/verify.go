package integrity

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/tritonops/tritonops/pkg/instance"
)

// chunk is how much is read at a time. One chunk and the archive reader's buffers
// are all the memory a check takes.
const chunk = 256 << 10

// Verdict is what the bytes of a file said.
type Verdict struct {
	Problems []string // the file is not what the manifest describes, or does not unpack
	Warnings []string
}

// Verify reads r to its end and compares it with what the manifest says: length,
// SHA-1, content MD5 if the manifest has one, and whether it unpacks if it begins
// like a gzip, bzip2 or xz archive. add is called with the number of bytes read
// (nil: not). The error is that of reading or of ctx; then there is no verdict.
func Verify(ctx context.Context, r io.Reader, want instance.File, add func(int64)) (Verdict, error) {
	p := newPass(want)
	defer p.stop()
	buf := make([]byte, min(max(want.Size+1, 512), chunk)) // one more byte than there should be
	for {
		if err := ctx.Err(); err != nil {
			return Verdict{}, err
		}
		n, err := fill(r, buf)
		if add != nil {
			add(int64(n))
		}
		p.write(buf[:n])
		switch {
		case err == io.EOF:
			return p.verdict(), nil
		case err != nil:
			return Verdict{}, err
		}
	}
}

// fill reads until buf is full or r ends. Unlike io.ReadFull it keeps the ordinary
// end (io.EOF) apart from a stream that was cut (io.ErrUnexpectedEOF).
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

// pass is one reading of a file.
type pass struct {
	want   instance.File
	size   int64
	sha1   hash.Hash
	md5    hash.Hash // nil where the manifest has none
	format string    // archive format by magic, "" for none
	pipe   *io.PipeWriter
	tested chan archiveVerdict
}

func newPass(want instance.File) *pass {
	p := &pass{want: want, sha1: sha1.New()}
	if want.ContentMD5 != "" {
		p.md5 = md5.New()
	}
	return p
}

func (p *pass) write(b []byte) {
	if p.size == 0 && len(b) > 0 {
		p.begin(b)
	}
	p.size += int64(len(b))
	p.sha1.Write(b)
	if p.md5 != nil {
		p.md5.Write(b)
	}
	if p.pipe != nil {
		if _, err := p.pipe.Write(b); err != nil {
			p.pipe = nil // the archive reader has seen enough
		}
	}
}

// begin starts the archive test beside the hashing when the first bytes call for
// one.
func (p *pass) begin(first []byte) {
	if p.format = Format(first); p.format == "" {
		return
	}
	pr, pw := io.Pipe()
	p.pipe, p.tested = pw, make(chan archiveVerdict, 1)
	go func() {
		p.tested <- safely(p.format, bufio.NewReaderSize(pr, 64<<10))
		pr.Close()
	}()
}

// stop ends an archive test that nobody waits for.
func (p *pass) stop() {
	if p.pipe != nil {
		p.pipe.CloseWithError(context.Canceled)
	}
}

func (p *pass) verdict() Verdict {
	var v Verdict
	sum := hex.EncodeToString(p.sha1.Sum(nil))
	same := strings.EqualFold(sum, p.want.SHA1)
	if p.size != p.want.Size {
		v.Problems = append(v.Problems, fmt.Sprintf("size is %d bytes, the manifest says %d", p.size, p.want.Size))
	}
	switch {
	case p.want.SHA1 == "":
		v.Warnings = append(v.Warnings, "the manifest has no sha1 to compare with")
	case !same:
		v.Problems = append(v.Problems, fmt.Sprintf("sha1 is %s, the manifest says %s", sum, p.want.SHA1))
	}
	if p.md5 != nil {
		got := base64.StdEncoding.EncodeToString(p.md5.Sum(nil))
		switch {
		case got == p.want.ContentMD5:
		case !same && p.want.SHA1 != "": // said already
		case same: // the server sends the wrong one to every client
			v.Problems = append(v.Problems, fmt.Sprintf("content MD5 in the manifest is %s, although the file (%s) has the right sha1", p.want.ContentMD5, got))
		default:
			v.Problems = append(v.Problems, fmt.Sprintf("content MD5 is %s, the manifest says %s", got, p.want.ContentMD5))
		}
	}
	p.archive(&v, same)
	return v
}

func (p *pass) archive(v *Verdict, same bool) {
	declared := p.want.Compression
	switch {
	case p.format == "" && declared != "" && declared != "none":
		v.Warnings = append(v.Warnings, "the manifest says "+declared+", but the file does not begin like one")
	case p.format != "" && declared != "" && declared != p.format:
		v.Warnings = append(v.Warnings, "the manifest says "+declared+", but the file begins like "+p.format)
	}
	if p.tested == nil {
		return
	}
	if p.pipe != nil {
		p.pipe.Close()
		p.pipe = nil
	}
	a := <-p.tested
	if a.warning != "" {
		v.Warnings = append(v.Warnings, p.format+" archive: "+a.warning)
	}
	if a.err == nil {
		return
	}
	text := "invalid " + p.format + " archive: " + a.err.Error()
	if same {
		text += " (it is as it was uploaded)"
	}
	v.Problems = append(v.Problems, text)
}

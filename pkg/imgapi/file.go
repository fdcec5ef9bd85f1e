package imgapi

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/rest"
)

// What is wrong with an image file on the way.
var (
	ErrChecksum = errors.New("content does not match its Content-MD5")
	// ErrFileGone: the server has the manifest but cannot read the file.
	ErrFileGone = errors.New("the server cannot read the file: it is missing on its disk, or its Manta does not answer")
)

// FileReader is an image file as it arrives. Read gives io.EOF only when the
// whole length has come and, where the server sent a Content-MD5, its content
// matched. Close it.
type FileReader struct {
	Size     int64  // bytes, as announced; from the manifest, not from the disk
	MD5      []byte // as announced; nil when the server sent none, then only the length is checked
	ETag     string // the manifest's sha1
	Filename string // "file" of this image, for messages

	body io.ReadCloser
	sum  hash.Hash
	got  int64
	err  error
}

// GetImageFile opens the file of an image in a channel ("" is the server's
// default, "*" any). The server does no ranges and no other index than 0.
func (c *Client) GetImageFile(ctx context.Context, uuid, channel string) (*FileReader, error) {
	if !ValidUUID(uuid) {
		return nil, fail.New(fail.Usage, "image %q: not a lower-case UUID", rest.Clean(uuid))
	}
	s, err := c.rest.Stream(ctx, rest.Request{
		Path: rest.Path("images", uuid, "file"), Query: inChannel(channel), Header: http.Header{"Accept": {"*/*"}},
	})
	if err != nil {
		var e *rest.Error
		if errors.As(err, &e) && e.Status == http.StatusInternalServerError && e.Code == "" {
			return nil, fmt.Errorf("%w: %w", e, ErrFileGone)
		}
		return nil, classify(err)
	}
	f := &FileReader{Size: s.Length, ETag: s.Header.Get("Etag"), Filename: uuid + "/file", body: s.Body, sum: md5.New()}
	if f.Size < 0 {
		s.Body.Close()
		return nil, fmt.Errorf("%s: the server names no length, so a cut file could not be told from a whole one", f.Filename)
	}
	if v := s.Header.Get("Content-MD5"); v != "" {
		if f.MD5, err = base64.StdEncoding.DecodeString(v); err != nil || len(f.MD5) != md5.Size {
			s.Body.Close()
			return nil, fmt.Errorf("%s: Content-MD5 %q is no MD5", f.Filename, rest.Clean(v))
		}
	}
	return f, nil
}

// Read implements io.Reader. After an error it gives that error again.
func (f *FileReader) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.body.Read(p)
	f.sum.Write(p[:n])
	f.got += int64(n)
	if err != nil {
		f.err = f.verdict(err)
	}
	return n, f.err
}

func (f *FileReader) verdict(err error) error {
	switch {
	case err != io.EOF:
		return fmt.Errorf("%s: after %d of %d bytes: %w", f.Filename, f.got, f.Size, err)
	case f.got != f.Size:
		return fmt.Errorf("%s: %d of %d bytes: %w", f.Filename, f.got, f.Size, io.ErrUnexpectedEOF)
	case f.MD5 != nil && string(f.sum.Sum(nil)) != string(f.MD5):
		return fmt.Errorf("%s: %w", f.Filename, ErrChecksum)
	}
	return io.EOF
}

// Close ends the transfer.
func (f *FileReader) Close() error { return f.body.Close() }

// classify gives errors of the transport their exit code.
func classify(err error) error {
	if err != nil && (errors.Is(err, rest.ErrUnavailable) || errors.Is(err, rest.ErrAuth)) {
		return fail.As(fail.Unreachable, err)
	}
	return err
}

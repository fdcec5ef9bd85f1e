package mantastore

import (
	"context"
	"io"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// source ends with a context. The HTTP library waits for a body that is being
// read even when the request was cancelled, so a source that waits for something
// would hold up the cancellation.
type source struct {
	ctx context.Context
	store.Source
}

// Open opens the source and closes it when the context ends.
func (s source) Open() (io.ReadCloser, error) {
	rc, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	return &content{rc, s.ctx, context.AfterFunc(s.ctx, func() { rc.Close() })}, nil
}

type content struct {
	io.ReadCloser
	ctx  context.Context
	stop func() bool
}

// Read gives the context's error rather than that of a file closed under it.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if cerr := c.ctx.Err(); cerr != nil && err != io.EOF {
		return n, cerr
	}
	return n, err
}

// Close closes the source, unless the context has done so.
func (c *content) Close() error {
	if !c.stop() {
		return nil
	}
	return c.ReadCloser.Close()
}

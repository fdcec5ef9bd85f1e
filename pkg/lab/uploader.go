package lab

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"path"

	"github.com/tritonops/tritonops/pkg/lab/mantastor"
)

// uploader puts small objects to Manta with a key from a file, as the stock
// scripts do with mput.
type uploader struct{ c *mantastor.Client }

func newUploader(url, account, keyFile string) (*uploader, error) {
	key, err := mantastor.LoadKey(keyFile)
	if err != nil {
		return nil, err
	}
	// loopback, with the lab's self-signed certificate
	c, err := mantastor.New(mantastor.Config{URL: url, Account: account, Key: key, Insecure: true})
	if err != nil {
		return nil, err
	}
	return &uploader{c}, nil
}

func (u *uploader) close() { u.c.Close() }

// put stores an object and makes its directories when they are missing.
func (u *uploader) put(ctx context.Context, object string, body []byte) error {
	send := func() error {
		return u.c.Put(ctx, object, bytes.NewReader(body), mantastor.Object{Type: "text/plain", Size: int64(len(body))})
	}
	err := send()
	if !mantastor.NotFound(err) {
		return err
	}
	if err := u.c.MkdirAll(ctx, path.Dir(object)); err != nil {
		return err
	}
	return send()
}

// mantaPut is how the seed puts image files into an instance's place in Manta: as
// the operator, whose key is on the account from the start.
func (l *Lab) mantaPut(m *zoneManta) (put func(context.Context, string, io.Reader) error, end func(), err error) {
	up, err := newUploader(l.state.Manta.URL, l.state.Account, l.state.Operator.Key)
	if err != nil {
		return nil, nil, err
	}
	root := path.Join("/", m.User, "stor", cmp.Or(m.BaseDir, "imgapi"))
	return func(ctx context.Context, name string, body io.Reader) error {
		object := path.Join(root, name)
		if err := up.c.MkdirAll(ctx, path.Dir(object)); err != nil {
			return err
		}
		return up.c.Put(ctx, object, body, mantastor.Object{Size: -1})
	}, up.close, nil
}

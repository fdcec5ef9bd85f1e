package imgapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/integrity"
	"github.com/tritonops/tritonops/pkg/manta"
)

// mantaGivesUp is after how many failures in a row Manta is taken for
// unreachable and not asked again: each failure has been retried already.
const mantaGivesUp = 3

// mantaFiles are the image files in Manta, for the integrity checker.
type mantaFiles struct {
	area   string                        // of the instance
	client func() (*manta.Client, error) // made when the first file is asked for

	mu     sync.Mutex
	failed int   // in a row
	last   error // of those
}

func newMantaFiles(ctx context.Context, o *checkFilesOptions, i *instance.Instance) *mantaFiles {
	m := &mantaFiles{}
	m.client = sync.OnceValues(func() (c *manta.Client, err error) {
		c, _, err = newMantaClient(ctx, o.env, i, &o.flags.Manta, mantaEffort{parallel: o.Parallel})
		if err == nil {
			m.area = i.Config.Manta.RootDir
		}
		return c, err
	})
	return m
}

// Stat implements integrity.Files.
func (m *mantaFiles) Stat(ctx context.Context, uuid, name string) (integrity.Stat, error) {
	var info manta.Info
	err := m.ask(func(c *manta.Client, path string) (err error) {
		info, err = c.Head(ctx, path)
		return err
	}, uuid, name)
	return integrity.Stat{Size: info.Size, ID: info.ETag}, err
}

// Open implements integrity.Files.
func (m *mantaFiles) Open(ctx context.Context, uuid, name string) (io.ReadCloser, integrity.Stat, error) {
	var ob *manta.Object
	err := m.ask(func(c *manta.Client, path string) (err error) {
		ob, err = c.Get(ctx, path, manta.GetOptions{})
		return err
	}, uuid, name)
	if err != nil {
		return nil, integrity.Stat{}, err
	}
	return ob, integrity.Stat{Size: ob.Info.Size, ID: ob.Info.ETag}, nil
}

// ask makes one request unless Manta has been given up.
func (m *mantaFiles) ask(request func(c *manta.Client, path string) error, uuid, name string) error {
	c, err := m.client()
	if err != nil { // an absent key file must not look like an absent image file
		return errors.New(err.Error())
	}
	if err := m.givenUp(); err != nil {
		return err
	}
	err = request(c, m.area+"/"+instance.RelFile(uuid, name))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case errors.Is(err, manta.ErrUnavailable) || errors.Is(err, manta.ErrAuth):
		m.failed, m.last = m.failed+1, err
	default:
		m.failed = 0
	}
	if errors.Is(err, manta.ErrNotFound) {
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
	}
	return err
}

func (m *mantaFiles) givenUp() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed < mantaGivesUp {
		return nil
	}
	return fmt.Errorf("not asked, because of: %w", m.last)
}

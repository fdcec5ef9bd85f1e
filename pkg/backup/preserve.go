package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// errUnreadable is wrapped when an object that is to be kept cannot be read back
// right. Perhaps the way to the store is bad today: it must not be overwritten.
var errUnreadable = errors.New("its stored content cannot be read back, so that it is not replaced")

// preserve copies the object at key into the history before it is overwritten.
// Manta has no copy on the server: the bytes pass through here, proven on both
// sides by MD5.
func preserve(ctx context.Context, st store.Store, key string, there store.Info) error {
	if !there.HasMD5 {
		return fmt.Errorf("%s: the store does not tell its MD5", key)
	}
	old := Entry{Size: there.Size, MD5: there.MD5}
	to := historyKey(old)
	h, err := st.Head(ctx, to)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && h.HasMD5 && h.MD5 == old.MD5 && h.Size == old.Size {
		// Young enough that no prune at work can have condemned it long ago.
		if now, err := st.Now(ctx); err != nil || now.Sub(h.MTime) < Grace/2 {
			return err
		}
	}
	info, err := st.Put(ctx, to, objectSource{ctx, st, key, there.Size}, store.Condition{})
	if errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%s: %w: %w", key, errUnreadable, err)
	}
	if err != nil {
		return fmt.Errorf("%s: keeping its old content as %s: %w", key, to, err)
	}
	if !bytes.Equal(info.MD5[:], old.MD5[:]) {
		return fmt.Errorf("%s: %w while its old content was copied to %s", key, store.ErrCondition, to)
	}
	return nil
}

// objectSource reads an upload's content from another object.
type objectSource struct {
	ctx  context.Context
	st   store.Store
	key  string
	size int64
}

func (o objectSource) Size() int64 { return o.size }

func (o objectSource) Open() (io.ReadCloser, error) {
	rc, info, err := o.st.Get(o.ctx, o.key)
	if err == nil && info.Size != o.size {
		rc.Close()
		return nil, fmt.Errorf("%s: %w", o.key, store.ErrCondition)
	}
	return rc, err
}

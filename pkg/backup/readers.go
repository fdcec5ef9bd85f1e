package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Reader is a restore in progress: prune leaves alone what it reads.
type Reader struct {
	ID   string    `json:"id"`
	Seq  uint64    `json:"generation"`
	Who  string    `json:"who"`
	Time time.Time `json:"time"`
}

func readerKey(id string) string { return readersDir + "/" + id + ".json" }

// MarkReader leaves or renews the mark of a restore.
func MarkReader(ctx context.Context, st store.Store, r Reader) error {
	key := readerKey(r.ID)
	if err := store.CheckKey(key); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = st.Put(ctx, key, store.Bytes(append(b, '\n')), store.Condition{})
	return err
}

// UnmarkReader takes the mark away.
func UnmarkReader(ctx context.Context, st store.Store, id string) error {
	return st.Delete(ctx, readerKey(id), store.Condition{})
}

// Readers returns the marks that are not older than a day by the store's clock;
// an older one belongs to a restore that died.
func Readers(ctx context.Context, st store.Store, now time.Time) ([]Reader, error) {
	var out []Reader
	for info, err := range st.List(ctx, readersDir) {
		if err != nil {
			return nil, err
		}
		if info.Dir || now.Sub(info.MTime) > readerLife {
			continue
		}
		b, _, err := store.Read(ctx, st, info.Key, 64<<10)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var r Reader
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", info.Key, err)
		}
		out = append(out, r)
	}
	return out, nil
}

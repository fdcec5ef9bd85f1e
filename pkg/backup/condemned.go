package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
)

// condemnedFile is backup/condemned.json: objects that a prune found
// unreferenced, and since when. A later prune deletes those whose etag is still
// the same and whose time is up.
type condemnedFile struct {
	Version int               `json:"version"`
	StoreID string            `json:"store_id"`
	Objects []condemnedObject `json:"objects"`
}

type condemnedObject struct {
	Key   string    `json:"key"`
	ETag  string    `json:"etag"`
	Size  int64     `json:"size"`
	Since time.Time `json:"since"` // by the store's clock
}

const maxCondemned = 64 << 20

// maxMarks keeps the file below maxCondemned; the rest is found by a later prune.
const maxMarks = 200_000

// loadCondemned reads the list. One that is damaged, or of another store, marks
// nothing, for prune and for runs alike.
func loadCondemned(ctx context.Context, st store.Store, storeID string) (condemnedFile, store.Info, error) {
	var c condemnedFile
	b, info, err := store.Read(ctx, st, condemnedKey, maxCondemned)
	if errors.Is(err, store.ErrNotFound) {
		return c, store.Info{}, nil
	}
	if err != nil {
		return c, info, err
	}
	if json.Unmarshal(b, &c) != nil || c.StoreID != storeID {
		return condemnedFile{}, info, nil
	}
	if c.Version > FormatVersion {
		return c, info, newer(st, fmt.Errorf("%s: version %d: %w", condemnedKey, c.Version, ErrNewer))
	}
	return c, info, nil
}

// objects condemns what nothing names and deletes what was condemned long
// enough.
func (pr *pruner) objects(ctx context.Context, k kept) error {
	before, info, err := loadCondemned(ctx, pr.st, pr.log.StoreID())
	if err != nil {
		return err
	}
	since := map[string]condemnedObject{}
	for _, o := range before.Objects {
		since[o.Key] = o
	}
	named := map[string]bool{}
	for _, es := range k {
		for _, e := range es {
			named[historyKey(e)] = true
		}
	}
	after := condemnedFile{Version: FormatVersion, StoreID: pr.log.StoreID()}
	pr.o.Progress.Phase("objects", 0, "objects")
	err = pr.walk(ctx, func(obj store.Info) error {
		pr.o.Progress.Add(1)
		if named[obj.Key] || k.names(obj) {
			return nil
		}
		return pr.unreferenced(ctx, obj, since, &after)
	})
	if err != nil || pr.o.DryRun {
		pr.p.Condemned = len(after.Objects)
		return err
	}
	pr.p.Condemned = len(after.Objects)
	return pr.saveCondemned(ctx, after, info)
}

// names says whether a mirror object holds what a kept generation names there.
func (k kept) names(obj store.Info) bool {
	p, ok := cutMirror(obj.Key)
	if !ok {
		return false
	}
	for _, e := range k[p] {
		if !obj.HasMD5 || obj.MD5 == e.MD5 && obj.Size == e.Size {
			return true
		}
	}
	return false
}

func cutMirror(key string) (string, bool) {
	p, ok := key[min(len(key), len(mirrorDir)+1):], len(key) > len(mirrorDir)+1
	return p, ok && imagePath.MatchString(p)
}

func (pr *pruner) unreferenced(ctx context.Context, obj store.Info, since map[string]condemnedObject, after *condemnedFile) error {
	if _, ok := cutMirror(obj.Key); !ok && path.Dir(path.Dir(obj.Key)) != historyDir {
		return nil // not ours
	}
	old, marked := since[obj.Key]
	if !marked || old.ETag != obj.ETag {
		if len(after.Objects) >= maxMarks {
			return nil
		}
		after.Objects = append(after.Objects, condemnedObject{Key: obj.Key, ETag: obj.ETag, Size: obj.Size, Since: pr.now.UTC()})
		pr.p.NewlyMarked++
		return nil
	}
	if pr.now.Sub(old.Since) < pr.o.Grace || pr.now.Sub(obj.MTime) < pr.o.Grace {
		after.Objects = append(after.Objects, old)
		return nil
	}
	// The etag makes it safe against a writer who puts the object back right now.
	err := pr.delete(ctx, obj.Key, store.IfMatch(obj.ETag))
	switch {
	case errors.Is(err, store.ErrCondition), errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	pr.p.Objects++
	pr.p.Bytes += obj.Size
	pr.rmdir(ctx, path.Dir(obj.Key))
	return nil
}

func (pr *pruner) saveCondemned(ctx context.Context, c condemnedFile, was store.Info) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	cond := store.IfAbsent()
	if was.ETag != "" {
		cond = store.IfMatch(was.ETag)
	}
	_, err = pr.st.Put(ctx, condemnedKey, store.Bytes(append(b, '\n')), cond)
	if errors.Is(err, store.ErrCondition) {
		return fail.As(fail.Held, fmt.Errorf("%s: another prune runs: %w", condemnedKey, err))
	}
	return err
}

// walk visits every object of the mirror's images and of the history.
func (pr *pruner) walk(ctx context.Context, visit func(store.Info) error) error {
	for _, dir := range []string{mirrorPath("images"), historyDir} {
		if err := walkTree(ctx, pr.st, dir, 3, visit); err != nil {
			return err
		}
	}
	return nil
}

func walkTree(ctx context.Context, st store.Store, dir string, depth int, visit func(store.Info) error) error {
	for info, err := range st.List(ctx, dir) {
		if err != nil {
			return err
		}
		if !info.Dir {
			err = visit(info)
		} else if depth > 0 {
			err = walkTree(ctx, st, info.Key, depth-1, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

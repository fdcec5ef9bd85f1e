package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
)

// CopyOptions drive a copy.
type CopyOptions struct {
	Parallel int
	DryRun   bool
	Progress Progress
}

// Copied is what a copy did.
type Copied struct {
	DryRun  bool   `json:"dry_run,omitempty"`
	From    string `json:"from"`
	To      string `json:"to"`
	Newest  uint64 `json:"newest"`
	Records int    `json:"records"` // copied now
	Bases   int    `json:"bases"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

// Copy brings a store's whole backup into another store: every generation it
// still has, so that a restore can read from either. What is there already is not
// sent again. Order is that of a backup: objects, then bases and records, then
// the mirror of manifests.
func Copy(ctx context.Context, from, to store.Store, o CopyOptions) (out Copied, err error) {
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	if o.Parallel == 0 {
		o.Parallel = 8
	}
	c := &copier{from: from, to: to, o: o, out: Copied{DryRun: o.DryRun, From: from.String(), To: to.String()}}
	if c.src, err = OpenLog(ctx, from, o.Progress.Note); err != nil {
		return c.out, err
	}
	if c.src.Empty() {
		return c.out, noGeneration(from, 0)
	}
	if c.dst, err = OpenLog(ctx, to, o.Progress.Note); err != nil {
		return c.out, err
	}
	if id := c.dst.StoreID(); id != "" && id != c.src.StoreID() {
		return c.out, fail.New(fail.Refused, "%s: holds the backup of another instance (store %s, not %s)", to, id, c.src.StoreID())
	}
	c.out.Newest = c.src.HeadSeq()
	if err := c.objects(ctx); err != nil {
		return c.out, err
	}
	if err := c.log(ctx); err != nil || o.DryRun {
		return c.out, err
	}
	return c.out, c.mirror(ctx)
}

type copier struct {
	from, to store.Store
	src, dst *Log
	o        CopyOptions
	oldest   uint64 // record the source still has
	mu       sync.Mutex
	out      Copied
}

// objects copies every image file that a stored generation names. The newest
// state's files get their mirror path, older content goes to the history.
func (c *copier) objects(ctx context.Context) error {
	bases, err := c.src.bases(ctx)
	if err != nil {
		return err
	}
	var base uint64
	if c.oldest, base, err = c.src.first(ctx, bases); err != nil {
		return err
	}
	for _, b := range bases {
		if b <= c.oldest {
			base = b
		}
	}
	k, err := references(ctx, c.src, base)
	if err != nil {
		return err
	}
	var total int64
	for _, es := range k {
		for _, e := range es {
			total += e.Size
		}
	}
	c.o.Progress.Phase("image files", total, "bytes")
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Parallel)
	for _, es := range k {
		for _, e := range es {
			g.Go(func() error { return c.object(gctx, e) })
		}
	}
	return g.Wait()
}

func (c *copier) object(ctx context.Context, e Entry) error {
	there, err := c.to.Head(ctx, mirrorPath(e.Path))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	key, err := locate(ctx, c.to, e, there)
	if err != nil {
		return err
	}
	if key != "" {
		c.o.Progress.Add(e.Size)
		return nil
	}
	src, err := c.from.Head(ctx, mirrorPath(e.Path))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if key, err = locate(ctx, c.from, e, src); err != nil {
		return err
	}
	if key == "" {
		return fail.Hint(fmt.Errorf("%s: %s: %w", c.from, e.Path, errLost), "tritonops imgapi backup verify")
	}
	c.mu.Lock()
	c.out.Objects++
	c.out.Bytes += e.Size
	c.mu.Unlock()
	if c.o.DryRun {
		return nil
	}
	// A path in use keeps what it holds only as history.
	if there.Key != "" && key == mirrorPath(e.Path) {
		if err := preserve(ctx, c.to, mirrorPath(e.Path), there); err != nil {
			return err
		}
	}
	info, err := c.to.Put(ctx, key, objectSource{ctx, c.from, key, e.Size}, store.Condition{})
	c.o.Progress.Add(e.Size)
	if err == nil && info.MD5 != e.MD5 {
		err = fmt.Errorf("%s: %w", key, store.ErrCorrupt)
	}
	return err
}

// log copies format, bases and records as they are, byte for byte. What was
// written since the copy began waits for the next one: its objects may be missing.
func (c *copier) log(ctx context.Context) error {
	if err := c.same(ctx, formatKey, new(int)); err != nil {
		return err
	}
	bases, err := c.src.bases(ctx)
	if err != nil {
		return err
	}
	for _, b := range bases {
		if b > c.src.HeadSeq() {
			break
		}
		if err := c.same(ctx, baseKey(b), &c.out.Bases); err != nil {
			return err
		}
	}
	c.o.Progress.Phase("records", int64(c.src.HeadSeq()-c.oldest+1), "records")
	for info, err := range c.src.Records(ctx) {
		if err != nil {
			return err
		}
		if seq, _ := seqOf(info.Key); seq > c.src.HeadSeq() {
			break
		}
		if err := c.same(ctx, info.Key, &c.out.Records); err != nil {
			return err
		}
		c.o.Progress.Add(1)
	}
	return nil
}

// same makes an immutable object of the log stand in both stores.
func (c *copier) same(ctx context.Context, key string, n *int) error {
	src, err := c.from.Head(ctx, key)
	if err != nil {
		return err
	}
	dst, err := c.to.Head(ctx, key)
	switch {
	case err == nil && dst.MD5 == src.MD5 && dst.Size == src.Size:
		return nil
	case err == nil:
		return fail.New(fail.Refused, "%s: %s differs from the one in %s: the two logs have parted", c.to, key, c.from)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	*n++
	if c.o.DryRun {
		return nil
	}
	info, err := c.to.Put(ctx, key, objectSource{ctx, c.from, key, src.Size}, store.IfAbsent())
	if err != nil || info.MD5 == src.MD5 {
		return err
	}
	// The log's objects are never overwritten: wrong bytes would stay for good.
	err = c.to.Delete(ctx, key, store.IfMatch(info.ETag))
	return errors.Join(fmt.Errorf("%s: %s: MD5 %x was read instead of %x: %w", c.from, key, info.MD5, src.MD5, store.ErrCorrupt), err)
}

func (c *copier) mirror(ctx context.Context) error {
	log, err := OpenLog(ctx, c.to, c.o.Progress.Note)
	if err != nil {
		return err
	}
	pos, err := log.StateAt(ctx, log.HeadSeq(), nil)
	if err != nil {
		return err
	}
	m := mirrorSync{st: c.to, log: log, parallel: c.o.Parallel, progress: c.o.Progress}
	return m.catchUp(ctx, pos)
}

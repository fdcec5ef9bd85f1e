package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// mirrorFile is backup/mirror.json: up to which record the mirror of manifests
// is complete. It is written after the mirror, so a crash leaves a lower number
// and the next run does the rest.
type mirrorFile struct {
	Version int    `json:"version"`
	StoreID string `json:"store_id"`
	Seq     uint64 `json:"seq"`
}

// mirrorSync brings backup/manifests to the state of a record. Image files are
// put there before the record and taken away by prune only.
type mirrorSync struct {
	st       store.Store
	log      *Log
	parallel int
	progress Progress

	loaded bool
	at     mirrorFile
}

// mirrorAt reads mirror.json; a missing or unreadable one says nothing.
func mirrorAt(ctx context.Context, st store.Store) (at mirrorFile, err error) {
	b, _, err := store.Read(ctx, st, mirrorKey, 64<<10)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return at, nil
	case err != nil:
		return at, err
	case json.Unmarshal(b, &at) != nil:
		return mirrorFile{}, nil
	}
	return at, nil
}

// replayLimit is how many records are replayed into the mirror one by one; a
// mirror further behind is compared by listing.
const replayLimit = 64

var errFullRecord = errors.New("a full record")

// catchUp makes the mirror what pos says.
func (m *mirrorSync) catchUp(ctx context.Context, pos Position) error {
	if pos.Seq == 0 {
		return nil
	}
	if !m.loaded {
		var err error
		if m.at, err = mirrorAt(ctx, m.st); err != nil {
			return err
		}
		m.loaded = true
	}
	if m.at.StoreID == m.log.StoreID() && m.at.Seq == pos.Seq {
		return nil
	}
	err := errFullRecord
	if m.at.StoreID == m.log.StoreID() && m.at.Seq > 0 && m.at.Seq < pos.Seq && pos.Seq-m.at.Seq <= replayLimit {
		err = m.replay(ctx, pos.Seq)
	}
	if errors.Is(err, errFullRecord) || damage(err) {
		_, err = m.reconcile(ctx, pos)
	}
	if err != nil {
		return err
	}
	return m.mark(ctx, pos.Seq)
}

func (m *mirrorSync) mark(ctx context.Context, seq uint64) error {
	at := mirrorFile{Version: FormatVersion, StoreID: m.log.StoreID(), Seq: seq}
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	if _, err := m.st.Put(ctx, mirrorKey, store.Bytes(append(b, '\n')), store.Condition{}); err != nil {
		return err
	}
	m.at = at
	return nil
}

// replay applies the records after the mirror's, each read back from the store:
// what the mirror gets is what was published.
func (m *mirrorSync) replay(ctx context.Context, to uint64) error {
	m.progress.Phase("mirror", 0, "manifests")
	for n := m.at.Seq + 1; n <= to; n++ {
		w := m.writer(ctx)
		_, _, _, err := m.log.readRecord(ctx, n, visitor{
			header: func(h Header) error {
				if h.Full {
					return errFullRecord
				}
				return nil
			},
			put:    w.put,
			delete: w.delete,
		})
		if err := errors.Join(err, w.wait()); err != nil {
			return err
		}
	}
	return nil
}

// reconcile compares the mirror's listing with the state and puts right what
// differs. It returns how many objects did.
func (m *mirrorSync) reconcile(ctx context.Context, pos Position) (int, error) {
	need := map[string]Entry{}
	for _, e := range pos.State.entries {
		if e.Manifest() {
			need[e.Path] = e
		}
	}
	var extra []string
	for info, err := range m.st.List(ctx, mirrorPath("manifests")) {
		if err != nil {
			return 0, err
		}
		p := info.Key[len(mirrorDir)+1:]
		if info.Dir || !manifestPath.MatchString(p) {
			continue // not ours: a person's note, say
		}
		if !info.HasMD5 {
			var err error
			if info, err = m.st.Head(ctx, info.Key); err != nil {
				return 0, err
			}
		}
		e, ok := need[p]
		switch {
		case !ok:
			extra = append(extra, p)
		case info.Size == e.Size && info.MD5 == e.MD5:
			delete(need, p)
		}
	}
	n := len(need) + len(extra)
	if n == 0 {
		return 0, nil
	}
	m.progress.Phase("mirror", int64(n), "manifests")
	return n, m.repair(ctx, pos, need, extra)
}

func (m *mirrorSync) repair(ctx context.Context, pos Position, need map[string]Entry, extra []string) error {
	w := m.writer(ctx)
	for _, p := range extra {
		if err := w.delete(p); err != nil {
			return errors.Join(err, w.wait())
		}
	}
	var err error
	if len(need) > 0 {
		_, err = m.log.StateAt(ctx, pos.Seq, neededOnly{need, w})
	}
	if err := errors.Join(err, w.wait()); err != nil {
		return err
	}
	if len(need) > 0 {
		return fmt.Errorf("%d manifests of generation %d were not met in its log", len(need), pos.Seq)
	}
	return nil
}

// neededOnly is a Sink that mirrors each needed entry once, when the replay
// passes the content the state ends with.
type neededOnly struct {
	need map[string]Entry
	w    *mirrorWriter
}

func (n neededOnly) Reset() error        { return nil }
func (n neededOnly) Delete(string) error { return nil }
func (n neededOnly) Put(e Entry, content []byte) error {
	want, ok := n.need[e.Path]
	if !ok || !want.Same(e) {
		return nil
	}
	delete(n.need, e.Path)
	return n.w.put(e, content)
}

// mirrorWriter puts and deletes mirror objects, several at once.
type mirrorWriter struct {
	m   *mirrorSync
	g   *errgroup.Group
	ctx context.Context
}

func (m *mirrorSync) writer(ctx context.Context) *mirrorWriter {
	w := &mirrorWriter{m: m}
	w.g, w.ctx = errgroup.WithContext(ctx)
	w.g.SetLimit(m.parallel)
	return w
}

func (w *mirrorWriter) put(e Entry, content []byte) error {
	if !e.Manifest() {
		return nil
	}
	b := bytes.Clone(content)
	w.g.Go(func() error {
		_, err := w.m.st.Put(w.ctx, mirrorPath(e.Path), store.Bytes(b), store.Condition{})
		w.m.progress.Add(1)
		return err
	})
	return w.ctx.Err()
}

func (w *mirrorWriter) delete(p string) error {
	if !manifestPath.MatchString(p) {
		return nil
	}
	w.g.Go(func() error {
		w.m.progress.Add(1)
		return w.m.st.Delete(w.ctx, mirrorPath(p), store.Condition{})
	})
	return w.ctx.Err()
}

func (w *mirrorWriter) wait() error { return w.g.Wait() }

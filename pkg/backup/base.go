package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/instance"
)

// baseIfDue writes a base when none is young enough, and after a full record, which
// may stand behind damage. Only the newest two matter to a restore; prune takes
// older ones away.
func (r *Runner) baseIfDue(ctx context.Context, log *Log, pos Position, s *scanned, full bool) (bool, error) {
	if pos.Seq == 0 {
		return false, nil
	}
	bases, err := log.bases(ctx)
	if err != nil {
		return false, err
	}
	if n := len(bases); !full && n > 0 && pos.Seq-min(bases[n-1], pos.Seq) < baseEvery {
		return false, nil
	}
	err = log.WriteBase(ctx, pos, r.anyContent(ctx, log, s), r.StateDir)
	if errors.Is(err, instance.ErrChanging) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUnknownOutcome) {
		r.Progress.Note(fmt.Sprintf("base %d: put off to the next run: %v", pos.Seq, err))
		return false, nil
	}
	return err == nil, err
}

// anyContent finds an inline entry's bytes wherever they are: on disk, or, for
// one that changed since or is unreadable there, in the mirror or the log.
func (r *Runner) anyContent(ctx context.Context, log *Log, s *scanned) contentFunc {
	var kept pickSink // filled when it is first needed
	return func(e Entry) ([]byte, error) {
		b, err := s.content(e)
		if err == nil {
			return b, nil
		}
		if e.Manifest() {
			b, _, err = store.Read(ctx, r.Store, mirrorPath(e.Path), maxInline)
			if err == nil && inlineEntry(e.Path, b).Same(e) {
				return b, nil
			}
		}
		if s.kept[e.Path] {
			if kept.got == nil {
				kept = newPick(func(p string) bool { return s.kept[p] })
				if _, err := log.StateAt(ctx, log.HeadSeq(), kept); err != nil {
					return nil, err
				}
			}
			if b := kept.got[e.Path]; inlineEntry(e.Path, b).Same(e) {
				return b, nil
			}
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", e.Path, instance.ErrChanging), err)
	}
}

// pickSink gathers the bytes of some inline entries.
type pickSink struct {
	pick func(path string) bool
	got  map[string][]byte
}

func newPick(pick func(string) bool) pickSink { return pickSink{pick, map[string][]byte{}} }

// Reset implements [Sink].
func (k pickSink) Reset() error {
	clear(k.got)
	return nil
}

// Delete implements [Sink].
func (k pickSink) Delete(p string) error {
	delete(k.got, p)
	return nil
}

// Put implements [Sink].
func (k pickSink) Put(e Entry, content []byte) error {
	if e.Inline() && k.pick(e.Path) {
		k.got[e.Path] = bytes.Clone(content)
	}
	return nil
}

// keepBases returns the bases that must stay when generations from floor on must
// stay restorable: the newest two, and the newest one at or before floor.
func keepBases(bases []uint64, floor uint64) []uint64 {
	keep := slices.Clone(bases[max(0, len(bases)-2):])
	for i := len(bases) - 1; i >= 0; i-- {
		if bases[i] <= floor {
			if !slices.Contains(keep, bases[i]) {
				keep = append(keep, bases[i])
			}
			break
		}
	}
	slices.Sort(keep)
	return keep
}

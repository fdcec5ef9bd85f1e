package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/instance"
)

// baseIfDue writes a base when none is young enough. Only the newest two matter
// to a restore; prune takes older ones away.
func (r *Runner) baseIfDue(ctx context.Context, log *Log, pos Position, s *scanned) (bool, error) {
	if pos.Seq == 0 {
		return false, nil
	}
	bases, err := log.bases(ctx)
	if err != nil {
		return false, err
	}
	if n := len(bases); n > 0 && pos.Seq-min(bases[n-1], pos.Seq) < baseEvery {
		return false, nil
	}
	err = log.WriteBase(ctx, pos, r.anyContent(ctx, s), r.StateDir)
	if errors.Is(err, instance.ErrChanging) || errors.Is(err, store.ErrNotFound) {
		r.Progress.Note(fmt.Sprintf("base %d: put off to the next run: %v", pos.Seq, err))
		return false, nil
	}
	return err == nil, err
}

// anyContent finds an inline entry's bytes wherever they are: on disk, or, for
// one that changed since or is torn there, in the mirror.
func (r *Runner) anyContent(ctx context.Context, s *scanned) contentFunc {
	return func(e Entry) ([]byte, error) {
		b, err := s.content(e)
		if err == nil {
			return b, nil
		}
		if !e.Manifest() {
			return nil, fmt.Errorf("%s: %w", e.Path, instance.ErrChanging)
		}
		b, _, err = store.Read(ctx, r.Store, mirrorPath(e.Path), maxInline)
		if err == nil && !inlineEntry(e.Path, b).Same(e) {
			err = fmt.Errorf("%s: %w", e.Path, instance.ErrChanging)
		}
		return b, err
	}
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

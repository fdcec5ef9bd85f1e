package backup

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// bases returns the numbers of the stored bases, ascending.
func (l *Log) bases(ctx context.Context) ([]uint64, error) {
	var out []uint64
	for info, err := range l.st.List(ctx, baseDir) {
		if err != nil {
			return nil, err
		}
		if seq, ok := seqOf(info.Key); ok && !info.Dir && baseKey(seq) == info.Key {
			out = append(out, seq)
		}
	}
	return out, nil
}

// Records lists the stored records in order, oldest first, from the listings
// alone.
func (l *Log) Records(ctx context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for dir, err := range l.st.List(ctx, logDir) {
			if err != nil {
				yield(store.Info{}, err)
				return
			}
			if !dir.Dir {
				continue
			}
			for info, err := range l.st.List(ctx, dir.Key) {
				if err == nil {
					if seq, ok := seqOf(info.Key); !ok || info.Dir || recordKey(seq) != info.Key {
						continue
					}
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

// first returns the number of the oldest stored record, and the base (0: the
// beginning of the log) from which the log can be read.
func (l *Log) first(ctx context.Context, bases []uint64) (record, base uint64, err error) {
	for info, err := range l.Records(ctx) {
		if err != nil {
			return 0, 0, err
		}
		record, _ = seqOf(info.Key)
		break
	}
	if record > 1 && len(bases) > 0 { // pruned
		base = bases[0]
	}
	return record, base, nil
}

// At returns the number of the last record whose time is not after t, or 0.
// Record times never decrease, so that a clock that jumped back cannot hide a
// generation. Records that cannot be read are passed over.
func (l *Log) At(ctx context.Context, t time.Time) (uint64, error) {
	var seqs []uint64
	for info, err := range l.Records(ctx) {
		if err != nil {
			return 0, err
		}
		seq, _ := seqOf(info.Key)
		seqs = append(seqs, seq)
	}
	var found uint64
	for len(seqs) > 0 {
		mid := len(seqs) / 2
		h, err := l.peek(ctx, seqs[mid])
		switch {
		case damage(err):
			seqs = slices.Delete(seqs, mid, mid+1)
		case err != nil:
			return 0, err
		case h.Time.After(t):
			seqs = seqs[:mid]
		default:
			found, seqs = seqs[mid], seqs[mid+1:]
		}
	}
	return found, nil
}

package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Sink receives the entries that a replay passes through, in order, so that the
// last word on each path is the state's. Reset forgets everything before it.
type Sink interface {
	Reset() error
	Put(e Entry, content []byte) error
	Delete(path string) error
}

type noSink struct{}

func (noSink) Reset() error            { return nil }
func (noSink) Put(Entry, []byte) error { return nil }
func (noSink) Delete(string) error     { return nil }

// StateAt returns the state after record seq, from the newest readable base at
// or before it and the records between. sink may be nil. Damage that another
// base makes good is noted, not an error.
func (l *Log) StateAt(ctx context.Context, seq uint64, sink Sink) (Position, error) {
	if sink == nil {
		sink = noSink{}
	}
	if seq == 0 {
		return Position{}, sink.Reset()
	}
	bases, err := l.bases(ctx)
	if err != nil {
		return Position{}, err
	}
	var cause error
	for i := len(bases); i >= 0; i-- {
		var from uint64
		if i > 0 {
			if from = bases[i-1]; from > seq {
				continue
			}
		}
		pos, err := l.rebuild(ctx, from, seq, sink)
		if err == nil || !damage(err) {
			return pos, err
		}
		if cause == nil {
			cause = err
		}
		if pos.Seq > from {
			break // not the base: older ones come to the same record
		}
		if from > 0 {
			l.note(fmt.Sprintf("base %d cannot be used (%v), trying the one before", from, err))
		}
	}
	return l.fromFullRecord(ctx, seq, sink, cause)
}

// fromFullRecord is the last resort: a record that carries its whole state needs
// nothing before it.
func (l *Log) fromFullRecord(ctx context.Context, seq uint64, sink Sink, cause error) (Position, error) {
	for n := seq; n > 0; n-- {
		h, err := l.peek(ctx, n)
		if err == nil && !h.Full {
			continue
		}
		var pos Position
		if err == nil {
			pos, err = l.replay(ctx, Position{Seq: n - 1, SHA256: h.Prev}, seq, sink)
		}
		if err == nil || !damage(err) {
			return pos, err
		}
		break
	}
	return Position{}, fail.Hint(
		fmt.Errorf("%s: generation %d: no readable way to it: %w", l.st, seq, cause),
		"tritonops imgapi restore --at ID   # an earlier generation, see `backup list`; `backup run --full` goes on with the data of this disk")
}

// rebuild starts at a base (0: at the beginning of the log) and replays to seq.
// With an error it returns how far it came, nowhere if the base is of no use.
func (l *Log) rebuild(ctx context.Context, base, seq uint64, sink Sink) (Position, error) {
	pos := Position{}
	if err := sink.Reset(); err != nil {
		return pos, err
	}
	if base > 0 {
		var entries []Entry
		h, t, _, err := l.readObject(ctx, baseKey(base), base, visitor{
			put: func(e Entry, content []byte) error {
				entries = append(entries, e)
				return sink.Put(e, content)
			},
			delete: func(p string) error { return fmt.Errorf("base deletes %s", p) },
		})
		if err != nil {
			return pos, err
		}
		// Within a chunk the objects come before the inline entries.
		state, err := NewState(entries)
		if err != nil {
			return pos, fmt.Errorf("%s: %w: %w", baseKey(base), ErrDamaged, err)
		}
		pos = Position{Seq: base, SHA256: h.Prev, Epoch: h.Epoch, Time: h.Time, Writer: h.Writer, State: state}
		if got := pos.State.Summary(); got != t.State {
			return Position{}, fmt.Errorf("%s: %w: its entries amount to %s, it says %s", baseKey(base), ErrDamaged, got.SHA256, t.State.SHA256)
		}
		if err := l.fits(ctx, pos, seq); err != nil {
			return Position{}, err
		}
	}
	return l.replay(ctx, pos, seq, sink)
}

// fits makes sure that a base belongs to this log and not to one that stood here
// before the store was set back. Where records follow, the first one's prev tells.
func (l *Log) fits(ctx context.Context, base Position, seq uint64) error {
	if base.Seq < seq {
		return nil
	}
	h, err := l.peek(ctx, base.Seq)
	switch {
	case damage(err):
		return nil // the base makes good for it
	case err == nil && (!h.Time.Equal(base.Time) || h.Epoch != base.Epoch):
		return fmt.Errorf("%s: %w: it is not of the record that has its number", baseKey(base.Seq), ErrDamaged)
	}
	return err
}

// tail reads the newest record. If it is damaged, the header is that of the newest
// one that can be read and the hash is empty: enough for a full record to follow.
func (l *Log) tail(ctx context.Context) (Header, Trailer, string, error) {
	h, t, sum, err := l.readRecord(ctx, l.HeadSeq(), discard)
	for n := l.HeadSeq(); n > 0 && (errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrCorrupt)); n-- {
		if h, err = l.peek(ctx, n); err == nil && h.Writer.Instance == "" {
			err = fmt.Errorf("%s: %w: it does not say whose it is", recordKey(n), ErrDamaged)
		}
	}
	return h, t, sum, err
}

// replay goes on from pos to record seq. With an error it returns how far it came.
func (l *Log) replay(ctx context.Context, pos Position, seq uint64, sink Sink) (Position, error) {
	changes := map[string]*Entry{} // nil: deleted
	full := false
	var last Trailer
	for n := pos.Seq + 1; n <= seq; n++ {
		h, t, sum, err := l.readRecord(ctx, n, visitor{
			header: func(h Header) error {
				if !h.Full {
					return nil
				}
				clear(changes)
				full = true
				return sink.Reset()
			},
			put: func(e Entry, content []byte) error {
				changes[e.Path] = &e
				return sink.Put(e, content)
			},
			delete: func(p string) error {
				changes[p] = nil
				return sink.Delete(p)
			},
		})
		if err != nil {
			return pos, err
		}
		if h.Prev != pos.SHA256 || h.Epoch < pos.Epoch {
			return pos, fmt.Errorf("%s: %w: it does not continue record %d (epoch %d after %d)", recordKey(n), ErrDamaged, n-1, h.Epoch, pos.Epoch)
		}
		pos.Seq, pos.SHA256, pos.Epoch, pos.Time, pos.Writer = n, sum, h.Epoch, h.Time, h.Writer
		last = t
	}
	if last == (Trailer{}) {
		return pos, nil
	}
	before := pos.State
	if full {
		before = State{}
	}
	pos.State = before.apply(changes)
	if got := pos.State.Summary(); got != last.State {
		return pos, fmt.Errorf("%s: %w: the state amounts to %+v, the record says %+v", recordKey(seq), ErrDamaged, got, last.State)
	}
	return pos, nil
}

func (s State) apply(changes map[string]*Entry) State {
	var puts []Entry
	var deletes []string
	for p, e := range changes {
		if e == nil {
			deletes = append(deletes, p)
		} else {
			puts = append(puts, *e)
		}
	}
	sortChanges(puts, deletes)
	return s.Apply(puts, deletes)
}

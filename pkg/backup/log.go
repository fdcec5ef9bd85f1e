package backup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Log is the one line of numbered records in a store.
type Log struct {
	st     store.Store
	format formatFile
	head   store.Info // newest record; Key "" in an empty log
	note   func(string)
}

// formatFile is backup/format.json, written once, before the first record.
type formatFile struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	StoreID string    `json:"store_id"` // random: tells a replaced store from a grown one
	Created time.Time `json:"created"`
}

// Position is a place in the log: a record and the state after it.
type Position struct {
	Seq    uint64
	SHA256 string // of the record's bytes, hex; the next record's Prev
	Epoch  uint64
	Time   time.Time
	Writer Writer
	State  State
}

// OpenLog finds the log's newest record: three requests at any length. A store
// without a log gives an empty one; nothing is written. note, which may be nil,
// receives one line per oddity survived.
func OpenLog(ctx context.Context, st store.Store, note func(string)) (*Log, error) {
	if note == nil {
		note = func(string) {}
	}
	l := &Log{st: st, note: note}
	b, _, err := store.Read(ctx, st, formatKey, 64<<10)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return l, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b, &l.format); err != nil || l.format.Format != formatName {
		return nil, fail.New(fail.Refused, "%s: %s: not a backup format file: %w", st, formatKey, orErr(err, "format %q", l.format.Format))
	}
	if l.format.Version > FormatVersion {
		return nil, newer(st, fmt.Errorf("version %d: %w", l.format.Version, ErrNewer))
	}
	return l, l.findHead(ctx)
}

func orErr(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format, args...)
}

func newer(st store.Store, err error) error {
	return fail.Hint(fail.New(fail.Refused, "%s: backup log: %w", st, err), "install the tritonops release that wrote it: tritonops version")
}

func (l *Log) findHead(ctx context.Context) error {
	var dirs []string
	for info, err := range l.st.List(ctx, logDir) {
		if err != nil {
			return err
		}
		if info.Dir {
			dirs = append(dirs, info.Key)
		}
	}
	// The newest directory may be empty: made for a record whose write failed.
	for len(dirs) > 0 {
		for info, err := range l.st.List(ctx, dirs[len(dirs)-1]) {
			if err != nil {
				return err
			}
			if seq, ok := seqOf(info.Key); ok && !info.Dir && recordKey(seq) == info.Key {
				l.head = info
			}
		}
		if l.head.Key != "" {
			return nil
		}
		dirs = dirs[:len(dirs)-1]
	}
	return nil
}

// Empty says whether the log has no record.
func (l *Log) Empty() bool { return l.head.Key == "" }

// HeadSeq returns the newest record's number, 0 in an empty log.
func (l *Log) HeadSeq() uint64 {
	seq, _ := seqOf(l.head.Key)
	return seq
}

// StoreID returns the store's random identity, "" before the first record.
func (l *Log) StoreID() string { return l.format.StoreID }

// readRecord reads record seq to its end and returns the SHA-256 of its bytes.
func (l *Log) readRecord(ctx context.Context, seq uint64, v visitor) (Header, Trailer, string, error) {
	return l.readObject(ctx, recordKey(seq), seq, v)
}

func (l *Log) readObject(ctx context.Context, key string, seq uint64, v visitor) (Header, Trailer, string, error) {
	rc, _, err := l.st.Get(ctx, key)
	if err != nil {
		return Header{}, Trailer{}, "", err
	}
	defer rc.Close()
	hash := sha256.New()
	h, t, err := readArchive(io.TeeReader(rc, hash), v)
	switch {
	case errors.Is(err, ErrNewer):
		return h, t, "", newer(l.st, fmt.Errorf("%s: %w", key, err))
	case err != nil:
		return h, t, "", fmt.Errorf("%s: %w", key, err)
	case h.Seq != seq || (h.Kind == kindBase) != (path.Dir(key) == baseDir):
		return h, t, "", fmt.Errorf("%s: %w: it says it is %s %d", key, ErrDamaged, h.Kind, h.Seq)
	}
	return h, t, hex.EncodeToString(hash.Sum(nil)), nil
}

// Header reads one record's header.
func (l *Log) Header(ctx context.Context, seq uint64) (Header, Trailer, error) {
	h, t, _, err := l.readRecord(ctx, seq, discard)
	return h, t, err
}

var discard = visitor{put: func(Entry, []byte) error { return nil }, delete: func(string) error { return nil }}

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
	var firstErr error
	for i := len(bases); i >= 0; i-- {
		var from uint64
		if i > 0 {
			if from = bases[i-1]; from > seq {
				continue
			}
		}
		pos, err := l.rebuild(ctx, from, seq, sink)
		if err == nil {
			return pos, nil
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrCorrupt) {
			return Position{}, err
		}
		if firstErr == nil {
			firstErr = err
		}
		if from > 0 {
			l.note(fmt.Sprintf("base %d cannot be used (%v), trying the one before", from, err))
		}
	}
	return l.fromFullRecord(ctx, seq, sink, firstErr)
}

// fromFullRecord is the last resort: a record that carries its whole state needs
// nothing before it.
func (l *Log) fromFullRecord(ctx context.Context, seq uint64, sink Sink, cause error) (Position, error) {
	for n := seq; n > 0; n-- {
		h, _, err := l.Header(ctx, n)
		if err != nil {
			if errors.Is(err, store.ErrNotFound) {
				break
			}
			continue
		}
		if !h.Full {
			continue
		}
		if pos, err := l.replay(ctx, Position{Seq: n - 1, SHA256: h.Prev}, seq, sink); err == nil {
			return pos, nil
		}
	}
	return Position{}, fail.Hint(
		fmt.Errorf("%s: generation %d: no readable way to it: %w", l.st, seq, cause),
		"tritonops imgapi backup verify   # names what is damaged; `backup run --full` starts afresh from the local data")
}

// rebuild starts at a base (0: at the beginning of the log) and replays to seq.
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
			return pos, fmt.Errorf("%s: %w: its entries amount to %s, it says %s", baseKey(base), ErrDamaged, got.SHA256, t.State.SHA256)
		}
	}
	return l.replay(ctx, pos, seq, sink)
}

// replay goes on from pos to record seq.
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

func newNonce() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// hashWriter hashes and counts what is written through it.
type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (h *hashWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.h.Write(p[:n])
	h.n += int64(n)
	return n, err
}

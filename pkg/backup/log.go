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
		// An empty store, or one that lost the file: the next record writes it.
	case err != nil:
		return nil, err
	default:
		if err := l.setFormat(b); err != nil {
			return nil, err
		}
	}
	return l, l.findHead(ctx)
}

func (l *Log) setFormat(b []byte) error {
	var f formatFile
	if err := json.Unmarshal(b, &f); err != nil || f.Format != formatName {
		return fail.New(fail.Refused, "%s: %s: not a backup format file: %w", l.st, formatKey, orErr(err, "format %q", f.Format))
	}
	if f.Version > FormatVersion {
		return newer(l.st, fmt.Errorf("version %d: %w", f.Version, ErrNewer))
	}
	l.format = f
	return nil
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
		if l.head.Key != "" && !l.head.HasMD5 { // it tells a local cache that this is the record it knows
			var err error
			l.head, err = l.st.Head(ctx, l.head.Key)
			return err
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

// peek reads a record's header and no more: nothing is proven of the rest.
func (l *Log) peek(ctx context.Context, seq uint64) (Header, error) {
	enough := errors.New("enough")
	var got Header
	_, _, _, err := l.readRecord(ctx, seq, visitor{header: func(h Header) error { got = h; return enough }})
	if !errors.Is(err, enough) {
		return got, err
	}
	if got.Seq != seq {
		return got, fmt.Errorf("%s: %w: it says it is %s %d", recordKey(seq), ErrDamaged, got.Kind, got.Seq)
	}
	return got, nil
}

// damage says whether an error is about what is stored, so that another way may
// lead around it, and not about reaching the store.
func damage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt)
}

// Header reads one record to its end.
func (l *Log) Header(ctx context.Context, seq uint64) (Header, Trailer, error) {
	h, t, _, err := l.readRecord(ctx, seq, discard)
	return h, t, err
}

var discard = visitor{put: func(Entry, []byte) error { return nil }, delete: func(string) error { return nil }}

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

package backup

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// ErrRace is returned when another writer took the number of the record to be
// written. Nothing was written; load the log again and decide.
var ErrRace = errors.New("another writer was first")

// Changes is what a record does to the state before it.
type Changes struct {
	Puts    []Entry  // sorted by path
	Deletes []string // sorted
	Full    bool     // Puts is the whole new state
}

// Empty says whether there is nothing to do.
func (c Changes) Empty() bool { return !c.Full && len(c.Puts) == 0 && len(c.Deletes) == 0 }

func sortChanges(puts []Entry, deletes []string) {
	slices.SortFunc(puts, byPath)
	slices.Sort(deletes)
}

// contentFunc gives the bytes of an inline entry, exactly as the entry says.
type contentFunc func(Entry) ([]byte, error)

// Append writes the record after pos and returns the new position. head fills
// in Kind, Writer and RestoredTo; the rest is set here. spoolDir takes a
// temporary file while the record is built. When somebody else has taken the
// number the error is ErrRace.
func (l *Log) Append(ctx context.Context, pos Position, head Header, epoch uint64, now time.Time, c Changes, content contentFunc, spoolDir string) (Position, error) {
	if err := l.ensureFormat(ctx, now); err != nil {
		return pos, err
	}
	after := pos.State.Apply(c.Puts, c.Deletes)
	if c.Full {
		after = State{c.Puts}
	}
	head.Format, head.Version = formatName, FormatVersion
	head.Seq, head.Epoch, head.Prev, head.Full = pos.Seq+1, epoch, pos.SHA256, c.Full
	head.Nonce = newNonce()
	head.Time = later(now.UTC().Truncate(time.Millisecond), pos.Time)

	sp, err := writeSpool(spoolDir, head, c, after.Summary(), content)
	if err != nil {
		return pos, err
	}
	defer sp.remove()
	if err := l.publish(ctx, recordKey(head.Seq), head, sp); err != nil {
		return pos, err
	}
	l.head = store.Info{Key: recordKey(head.Seq), Size: sp.File.Length, MD5: sp.md5, HasMD5: true}
	return Position{Seq: head.Seq, SHA256: sp.sha256, Epoch: epoch, Time: head.Time, Writer: head.Writer, State: after}, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// publish creates the record's object. A lost answer is settled by reading the
// object back and looking for this record's nonce.
func (l *Log) publish(ctx context.Context, key string, head Header, sp *spool) error {
	const tries = 4
	var err error
	for try := range tries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(try) * 300 * time.Millisecond):
			}
		}
		var info store.Info
		info, err = l.st.Put(ctx, key, sp.File, store.IfAbsent())
		if err == nil {
			sp.md5 = info.MD5
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		found, _, _, rerr := l.readRecord(ctx, head.Seq, discard)
		switch {
		case rerr == nil && found.Nonce == head.Nonce:
			sp.md5 = sp.ownMD5
			return nil
		case rerr == nil:
			return fmt.Errorf("%s: %w (%s %s, epoch %d)", key, ErrRace, found.Writer.Alias, found.Writer.Instance, found.Epoch)
		case errors.Is(rerr, store.ErrNotFound) && !errors.Is(err, store.ErrCondition):
			// Not there (yet): creating it again is safe, whichever request lands first carries
			// this nonce.
		case errors.Is(err, store.ErrCondition):
			return fmt.Errorf("%s: %w and its record cannot be read: %w", key, ErrRace, rerr)
		}
	}
	if errors.Is(err, store.ErrUnknownOutcome) { // and it never came to be there
		err = fail.As(fail.Unreachable, err)
	}
	return err
}

func (l *Log) ensureFormat(ctx context.Context, now time.Time) error {
	if l.format.StoreID != "" {
		return nil
	}
	f := formatFile{Format: formatName, Version: FormatVersion, StoreID: newNonce(), Created: now.UTC().Truncate(time.Second)}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	_, err = l.st.Put(ctx, formatKey, store.Bytes(append(b, '\n')), store.IfAbsent())
	if err == nil {
		l.format = f
		return nil
	}
	// Somebody was first, or the answer was lost: what stands there counts.
	b, _, rerr := store.Read(ctx, l.st, formatKey, 64<<10)
	if rerr != nil {
		return cmp.Or(err, rerr)
	}
	return l.setFormat(b)
}

// WriteBase stores pos.State whole, unless a base of that number is there.
func (l *Log) WriteBase(ctx context.Context, pos Position, content contentFunc, spoolDir string) error {
	h := Header{
		Format: formatName, Version: FormatVersion, Kind: kindBase, Seq: pos.Seq, Epoch: pos.Epoch, Prev: pos.SHA256,
		Time: pos.Time, Nonce: newNonce(), Writer: pos.Writer, Full: true,
	}
	sp, err := writeSpool(spoolDir, h, Changes{Puts: pos.State.entries, Full: true}, pos.State.Summary(), content)
	if err != nil {
		return err
	}
	defer sp.remove()
	// Two writers of one base write the same state: either may win.
	_, err = l.st.Put(ctx, baseKey(pos.Seq), sp.File, store.IfAbsent())
	if errors.Is(err, store.ErrCondition) {
		return nil
	}
	return err
}

// spool is an archive built in a temporary file, so that its size is known
// before it is sent and memory stays flat.
type spool struct {
	store.File
	sha256 string
	ownMD5 store.MD5
	md5    store.MD5
}

func (s *spool) remove() { os.Remove(s.Path) }

func writeSpool(dir string, h Header, c Changes, after Summary, content contentFunc) (sp *spool, err error) {
	f, err := os.CreateTemp(dir, durable.TempPrefix+"spool-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	md := md5.New()
	hw := &hashWriter{w: f, h: sha256.New()}
	a, err := newArchive(io.MultiWriter(hw, md), h, content)
	if err != nil {
		return nil, err
	}
	deletes := c.Deletes
	for _, e := range c.Puts {
		for len(deletes) > 0 && deletes[0] < e.Path {
			if err := a.delete(deletes[0]); err != nil {
				return nil, err
			}
			deletes = deletes[1:]
		}
		if err := a.put(e); err != nil {
			return nil, err
		}
	}
	for _, p := range deletes {
		if err := a.delete(p); err != nil {
			return nil, err
		}
	}
	if err := a.close(after); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	sp = &spool{File: store.File{Path: f.Name(), Length: hw.n}, sha256: hex.EncodeToString(hw.h.Sum(nil))}
	md.Sum(sp.ownMD5[:0])
	return sp, nil
}

// cleanSpools removes what a crash left in the spool directory.
func cleanSpools(dir string) error { return durable.RemoveTemps(filepath.Clean(dir)) }

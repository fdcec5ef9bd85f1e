package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tritonops/tritonops/pkg/instance"
)

// FormatVersion is the version of everything this build writes into a store. A
// log with a higher one is refused.
const FormatVersion = 1

const (
	formatName = "tritonops-backup"
	// chunkEntries bounds how many entries stand in one list before their bytes
	// follow, and so the memory of a reader.
	chunkEntries = 500
	// maxInline bounds one inline entry. The largest manifests seen in public image
	// servers are some tens of KB.
	maxInline     = 4 << 20
	maxChunkBytes = 1 << 20
)

// Kind tells what a record is for.
type Kind string

// The kinds of record.
const (
	KindCommit   Kind = "commit"   // changes of one run
	KindEpoch    Kind = "epoch"    // a new primary's first act: later records of lower epochs are refused
	KindRestored Kind = "restored" // the instance was set back to an earlier generation; carries it whole
	kindBase     Kind = "base"     // not a record: a state written out whole
)

// Writer says who wrote a record.
type Writer struct {
	Instance string `json:"instance"` // zonename
	Alias    string `json:"alias,omitempty"`
	Server   string `json:"server,omitempty"`
	Tool     string `json:"tool"` // "tritonops 1.2.3"
}

// Header opens a record or a base.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Kind    Kind      `json:"kind"`
	Seq     uint64    `json:"seq"`
	Epoch   uint64    `json:"epoch"`
	Prev    string    `json:"prev"` // SHA-256 of record seq-1 in hex, "" for the first; in a base, of record seq
	Time    time.Time `json:"time"` // by the writer's clock, never before the previous record's
	Nonce   string    `json:"nonce"`
	Writer  Writer    `json:"writer"`
	// Full: the entries are the whole state, not changes to the one before.
	Full       bool   `json:"full,omitempty"`
	RestoredTo uint64 `json:"restored_to,omitempty"`
}

// Trailer closes a record or a base. An archive without one was cut short.
type Trailer struct {
	Puts    int     `json:"puts"`
	Deletes int     `json:"deletes"`
	State   Summary `json:"state"` // after this record
}

// ErrDamaged is wrapped by every error about an archive that cannot be read as
// docs/formats.md says.
var ErrDamaged = errors.New("damaged")

// ErrNewer is wrapped when the log was written by a newer format version.
var ErrNewer = errors.New("written in a newer format")

// archiveWriter writes a gzip-compressed tar: record.json, then per chunk a list
// of entries and the bytes of the inline ones, then end.json. `tar xzf` of it
// gives an operator the manifests without this program.
type archiveWriter struct {
	gz      *gzip.Writer
	tw      *tar.Writer
	when    time.Time
	content func(Entry) ([]byte, error)
	chunk   []entryJSON
	pending []Entry
	chunks  int
	trailer Trailer
}

// newArchive starts an archive. content gives the bytes of an inline entry when
// its chunk is written.
func newArchive(w io.Writer, h Header, content func(Entry) ([]byte, error)) (*archiveWriter, error) {
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	a := &archiveWriter{gz: gz, tw: tar.NewWriter(gz), when: h.Time, content: content}
	return a, a.json("record.json", h)
}

func (a *archiveWriter) json(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return a.member(name, append(b, '\n'))
}

func (a *archiveWriter) member(name string, b []byte) error {
	if err := a.tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b)), ModTime: a.when, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := a.tw.Write(b)
	return err
}

func (a *archiveWriter) put(e Entry) error {
	a.trailer.Puts++
	j := entryJSON{Path: e.Path, Size: e.Size, MD5: fmt.Sprintf("%x", e.MD5)}
	if e.Inline() {
		j.SHA256 = fmt.Sprintf("%x", e.SHA256)
		a.pending = append(a.pending, e)
	}
	return a.line(j)
}

func (a *archiveWriter) delete(p string) error {
	a.trailer.Deletes++
	return a.line(entryJSON{Path: p, Delete: true})
}

func (a *archiveWriter) line(j entryJSON) error {
	a.chunk = append(a.chunk, j)
	if len(a.chunk) < chunkEntries {
		return nil
	}
	return a.flush()
}

func (a *archiveWriter) flush() error {
	if len(a.chunk) == 0 {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, j := range a.chunk {
		if err := enc.Encode(j); err != nil {
			return err
		}
	}
	a.chunks++
	if err := a.member(fmt.Sprintf("entries-%06d.jsonl", a.chunks), b.Bytes()); err != nil {
		return err
	}
	for _, e := range a.pending {
		content, err := a.content(e)
		if err != nil {
			return err
		}
		if got := inlineEntry(e.Path, content); !got.Same(e) {
			return fmt.Errorf("%s: %w", e.Path, instance.ErrChanging)
		}
		if err := a.member(e.Path, content); err != nil {
			return err
		}
	}
	a.chunk, a.pending = a.chunk[:0], a.pending[:0]
	return nil
}

func (a *archiveWriter) close(after Summary) error {
	if err := a.flush(); err != nil {
		return err
	}
	a.trailer.State = after
	if err := a.json("end.json", a.trailer); err != nil {
		return err
	}
	if err := a.tw.Close(); err != nil {
		return err
	}
	return a.gz.Close()
}

// visitor receives what an archive holds, in its order. content is nil for
// object entries and must not be kept.
type visitor struct {
	header func(Header) error
	put    func(e Entry, content []byte) error
	delete func(path string) error
}

// readArchive reads a record or base to its end and checks everything it can
// check alone: structure, every inline entry's bytes, the counts. Any deviation
// is ErrDamaged.
func readArchive(r io.Reader, v visitor) (Header, Trailer, error) {
	h, t, err := readMembers(r, v)
	if err == nil || errors.Is(err, ErrNewer) || errors.As(err, new(visitError)) {
		return h, t, err
	}
	return h, t, fmt.Errorf("%w: %w", ErrDamaged, err)
}

// visitError marks an error of the visitor, which says nothing about the archive.
type visitError struct{ error }

func (e visitError) Unwrap() error { return e.error }

func readMembers(r io.Reader, v visitor) (h Header, t Trailer, err error) {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return h, t, err
	}
	gz.Multistream(false)
	d := decoder{tr: tar.NewReader(gz), v: v}
	if h, err = d.head(); err != nil {
		return h, t, err
	}
	if v.header != nil {
		if err := v.header(h); err != nil {
			return h, t, visitError{err}
		}
	}
	for !d.ended {
		if err := d.next(); err != nil {
			return h, t, err
		}
	}
	if _, err := d.tr.Next(); err != io.EOF {
		return h, t, fmt.Errorf("something follows end.json")
	}
	// To the end of both layers: gzip's checksum stands there, and the caller's
	// hash must have seen every byte.
	if n, err := io.Copy(io.Discard, gz); err != nil || n > 1<<20 {
		return h, t, fmt.Errorf("after the last member: %d bytes, %w", n, orNil(err))
	}
	if n, err := io.Copy(io.Discard, r); err != nil {
		return h, t, err
	} else if n > 0 {
		return h, t, fmt.Errorf("%d bytes follow the archive", n)
	}
	return h, d.trailer, nil
}

func orNil(err error) error {
	if err == nil {
		return errors.New("too many")
	}
	return err
}

type decoder struct {
	tr      *tar.Reader
	v       visitor
	want    []Entry // inline entries of the chunk whose bytes must follow, in order
	last    string  // path of the last line: lines are sorted
	puts    int
	deletes int
	chunks  int
	trailer Trailer
	ended   bool
}

func (d *decoder) member(limit int64) (string, []byte, error) {
	hdr, err := d.tr.Next()
	if err == io.EOF {
		return "", nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", nil, err
	}
	if hdr.Typeflag != tar.TypeReg || hdr.Size < 0 || hdr.Size > limit {
		return "", nil, fmt.Errorf("member %q: type %q, %d bytes", hdr.Name, hdr.Typeflag, hdr.Size)
	}
	b := make([]byte, hdr.Size)
	_, err = io.ReadFull(d.tr, b)
	return hdr.Name, b, err
}

func (d *decoder) head() (h Header, err error) {
	name, b, err := d.member(64 << 10)
	if err != nil {
		return h, err
	}
	if name != "record.json" {
		return h, fmt.Errorf("first member is %q, not record.json", name)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		// A newer version may have changed the header's shape: its number is what counts.
		var min struct{ Version int }
		if json.Unmarshal(b, &min) != nil || min.Version <= FormatVersion {
			return h, fmt.Errorf("record.json: %w", err)
		}
		h.Format, h.Version = formatName, min.Version
	}
	if h.Format != formatName {
		return h, fmt.Errorf("record.json: format %q", h.Format)
	}
	if h.Version > FormatVersion {
		return h, fmt.Errorf("version %d by %s, this build reads up to %d: %w", h.Version, h.Writer.Tool, FormatVersion, ErrNewer)
	}
	if h.Seq == 0 || h.Version < 1 {
		return h, fmt.Errorf("record.json: seq %d, version %d", h.Seq, h.Version)
	}
	return h, nil
}

func (d *decoder) next() error {
	name, b, err := d.member(maxInline)
	if err != nil {
		return err
	}
	switch {
	case len(d.want) > 0:
		return d.bytesOf(name, b)
	case name == "end.json":
		d.ended = true
		if err := json.Unmarshal(b, &d.trailer); err != nil {
			return fmt.Errorf("end.json: %w", err)
		}
		if d.trailer.Puts != d.puts || d.trailer.Deletes != d.deletes {
			return fmt.Errorf("end.json counts %d puts and %d deletes, read were %d and %d", d.trailer.Puts, d.trailer.Deletes, d.puts, d.deletes)
		}
		return nil
	default:
		d.chunks++
		if name != fmt.Sprintf("entries-%06d.jsonl", d.chunks) || len(b) > maxChunkBytes {
			return fmt.Errorf("unexpected member %q", name)
		}
		return d.lines(b)
	}
}

func (d *decoder) bytesOf(name string, b []byte) error {
	e := d.want[0]
	if name != e.Path {
		return fmt.Errorf("member %q stands where %q must", name, e.Path)
	}
	if int64(len(b)) != e.Size || sha256.Sum256(b) != e.SHA256 || md5.Sum(b) != e.MD5 {
		return fmt.Errorf("%s: bytes do not match their hash", e.Path)
	}
	d.want = d.want[1:]
	if err := d.v.put(e, b); err != nil {
		return visitError{err}
	}
	return nil
}

func (d *decoder) lines(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	for {
		var j entryJSON
		if err := dec.Decode(&j); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if j.Path <= d.last {
			return fmt.Errorf("%q stands behind %q", j.Path, d.last)
		}
		d.last = j.Path
		if err := d.apply(j); err != nil {
			return err
		}
	}
}

func (d *decoder) apply(j entryJSON) error {
	if j.Delete {
		d.deletes++
		if err := checkPath(j.Path); err != nil {
			return err
		}
		if err := d.v.delete(j.Path); err != nil {
			return visitError{err}
		}
		return nil
	}
	e, err := j.entry()
	if err != nil {
		return err
	}
	d.puts++
	if e.Inline() {
		d.want = append(d.want, e)
		return nil
	}
	if err := d.v.put(e, nil); err != nil {
		return visitError{err}
	}
	return nil
}

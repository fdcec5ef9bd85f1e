package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// verifiedFile is backup/verified.json: the newest generation proven restorable.
// Its age is the object's, by the store's clock.
type verifiedFile struct {
	Version int       `json:"version"`
	StoreID string    `json:"store_id"`
	Seq     uint64    `json:"seq"`
	Deep    uint64    `json:"deep_seq"` // newest one whose bytes were read and hashed
	Time    time.Time `json:"time"`
}

// loadVerified reads it. What it says of another store, or of generations beyond
// the log's end (the store was set back), does not count.
func loadVerified(ctx context.Context, log *Log) (verifiedFile, store.Info, error) {
	var v verifiedFile
	b, info, err := store.Read(ctx, log.st, verifiedKey, 64<<10)
	if errors.Is(err, store.ErrNotFound) {
		return v, info, nil
	}
	if err != nil {
		return v, info, err
	}
	if json.Unmarshal(b, &v) != nil || v.StoreID != log.StoreID() || max(v.Seq, v.Deep) > log.HeadSeq() {
		return verifiedFile{}, info, nil
	}
	return v, info, nil
}

// VerifyOptions choose what is proven.
type VerifyOptions struct {
	Seq      uint64 // generation, 0 for the newest
	Deep     bool   // download and hash every object, read every base
	Parallel int
	Progress Progress
	Now      time.Time
}

// Verification is what a verify found.
type Verification struct {
	Generation uint64    `json:"generation"`
	Time       time.Time `json:"time"` // of the generation
	Deep       bool      `json:"deep"`
	State      Summary   `json:"state"`
	Objects    int       `json:"objects"`    // looked at
	BytesRead  int64     `json:"bytes_read"` // deep only
	Bases      []uint64  `json:"bases"`
	Faults     []Fault   `json:"faults"`
}

// Verify proves one generation restorable: its state can be rebuilt, every object
// it names is stored with the right length and MD5, and with Deep every byte was
// read. A generation without faults is marked good.
func Verify(ctx context.Context, st store.Store, o VerifyOptions) (v Verification, err error) {
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	if o.Parallel == 0 {
		o.Parallel = 16
	}
	c := &checker{st: st, o: o, shas: map[string]string{}}
	log, err := OpenLog(ctx, st, func(text string) { c.fault("base_damaged", "", text) })
	if err != nil {
		return v, err
	}
	seq := o.Seq
	if seq == 0 {
		seq = log.HeadSeq()
	}
	if seq == 0 || seq > log.HeadSeq() {
		return v, noGeneration(st, o.Seq)
	}
	pos, err := log.StateAt(ctx, seq, c)
	if err != nil {
		return v, err
	}
	v = Verification{Generation: seq, Time: pos.Time, Deep: o.Deep, State: pos.State.Summary()}
	if v.Bases, err = log.bases(ctx); err != nil {
		return v, err
	}
	if o.Deep {
		if err := c.bases(ctx, log, v.Bases); err != nil {
			return v, err
		}
	}
	if err := c.objects(ctx, pos.State); err != nil {
		return v, err
	}
	if seq == log.HeadSeq() {
		if err := c.mirror(ctx, log, pos); err != nil {
			return v, err
		}
	}
	slices.SortFunc(c.faults, func(a, b Fault) int { return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Path, b.Path)) })
	v.Objects, v.BytesRead, v.Faults = c.n, c.read, c.faults
	if !c.broken {
		err = markVerified(ctx, log, seq, o.Deep, o.Now)
	}
	return v, err
}

func markVerified(ctx context.Context, log *Log, seq uint64, deep bool, now time.Time) error {
	v, _, err := loadVerified(ctx, log)
	if err != nil {
		return err
	}
	v.Version, v.StoreID, v.Time = FormatVersion, log.StoreID(), now.UTC().Truncate(time.Second)
	v.Seq = max(v.Seq, seq)
	if deep {
		v.Deep = max(v.Deep, seq)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = log.st.Put(ctx, verifiedKey, store.Bytes(append(b, '\n')), store.Condition{})
	return err
}

// checker gathers what a verify finds. It is the Sink of the replay, to learn
// what the manifests say of their files.
type checker struct {
	st store.Store
	o  VerifyOptions

	mu     sync.Mutex
	faults []Fault
	broken bool // a fault that makes the generation unrestorable
	n      int
	read   int64
	shas   map[string]string // image file path to the manifest's SHA-1
}

func (c *checker) Reset() error {
	clear(c.shas)
	return nil
}

func (c *checker) Delete(string) error { return nil }

func (c *checker) Put(e Entry, content []byte) error {
	if !c.o.Deep || !e.Manifest() {
		return nil
	}
	m, err := instance.ParseManifest(content)
	if err != nil {
		c.fault("manifest_unreadable", e.Path, err.Error())
		return nil
	}
	for _, w := range wants(m) {
		c.shas[w.path] = w.sha1
	}
	return nil
}

func (c *checker) fault(code, p, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, Fault{Code: code, Path: p, Text: text})
}

func (c *checker) breaks(code, p, text, fix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	c.faults = append(c.faults, Fault{Code: code, Path: p, Text: text, Fix: fix})
}

func (c *checker) bases(ctx context.Context, log *Log, bases []uint64) error {
	for _, b := range bases {
		if _, err := log.rebuild(ctx, b, b, noSink{}); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.fault("base_damaged", baseKey(b), err.Error())
		}
	}
	return nil
}

// objects looks for every image file of the state, one listing per image.
func (c *checker) objects(ctx context.Context, s State) error {
	var files []Entry
	var total int64
	for _, e := range s.entries {
		if !e.Inline() {
			files = append(files, e)
			total += e.Size
		}
	}
	if c.o.Deep {
		c.o.Progress.Phase("image files", total, "bytes")
	} else {
		c.o.Progress.Phase("image files", int64(len(files)), "files")
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Parallel)
	for len(files) > 0 {
		n := 1
		for n < len(files) && path.Dir(files[n].Path) == path.Dir(files[0].Path) {
			n++
		}
		group := files[:n]
		files = files[n:]
		g.Go(func() error { return c.image(gctx, group) })
	}
	return g.Wait()
}

// image checks the files of one image.
func (c *checker) image(ctx context.Context, group []Entry) error {
	listed := map[string]store.Info{}
	for info, err := range c.st.List(ctx, mirrorPath(path.Dir(group[0].Path))) {
		if err != nil {
			return err
		}
		listed[info.Key] = info
	}
	for _, e := range group {
		key, err := locate(ctx, c.st, e, listed[mirrorPath(e.Path)])
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.n++
		c.mu.Unlock()
		if !c.o.Deep {
			c.o.Progress.Add(1)
		}
		if key == "" {
			c.breaks("object_lost", e.Path, fmt.Sprintf("no object in the store has its %d bytes with MD5 %x", e.Size, e.MD5),
				resendHint)
			continue
		}
		if c.o.Deep {
			if err := c.deep(ctx, e, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// locate finds the object that holds an entry's content: in the mirror, or in
// the history if something else stands there. "" when there is none.
func locate(ctx context.Context, st store.Store, e Entry, mirror store.Info) (string, error) {
	key := mirrorPath(e.Path)
	if mirror.Key != "" && !mirror.HasMD5 {
		var err error
		if mirror, err = st.Head(ctx, key); err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
	}
	if mirror.HasMD5 && !mirror.Dir && mirror.MD5 == e.MD5 && mirror.Size == e.Size {
		return key, nil
	}
	key = historyKey(e)
	h, err := st.Head(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case h.HasMD5 && h.MD5 == e.MD5 && h.Size == e.Size:
		return key, nil
	}
	return "", nil
}

// deep reads one object to its end.
func (c *checker) deep(ctx context.Context, e Entry, key string) error {
	h := newSums()
	rc, _, err := c.st.Get(ctx, key)
	if err == nil {
		var n int64
		n, err = io.Copy(h, &progressReader{ReadCloser: rc, progress: c.o.Progress.Add})
		rc.Close()
		c.mu.Lock()
		c.read += n
		c.mu.Unlock()
		if err == nil && (n != e.Size || h.md5() != e.MD5) {
			err = store.ErrCorrupt
		}
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrUnavailable):
		return err
	default:
		c.breaks("object_damaged", key, err.Error(), "remove this object from the store, then "+resendHint)
		return nil
	}
	if want := c.shas[e.Path]; want != "" && want != h.sha1() {
		c.breaks("object_contradicts", key, fmt.Sprintf("SHA-1 %s, its manifest says %s", h.sha1(), want),
			"tritonops imgapi check-files "+e.UUID())
	}
	return nil
}

// mirror compares the mirror of manifests with the newest state. A difference
// does not break the generation: the log has the bytes.
func (c *checker) mirror(ctx context.Context, log *Log, pos Position) error {
	at, err := mirrorAt(ctx, c.st)
	if err != nil {
		return err
	}
	if at.StoreID == log.StoreID() && at.Seq > 0 && at.Seq < pos.Seq {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults = append(c.faults, Fault{Code: "mirror_differs", Path: mirrorKey,
			Text: fmt.Sprintf("the mirror of manifests is still that of generation %d; the next run brings it to %d", at.Seq, pos.Seq),
			Fix:  "tritonops imgapi backup run"})
		return nil
	}
	left := map[string]Entry{}
	for _, e := range pos.State.entries {
		if e.Manifest() {
			left[e.Path] = e
		}
	}
	for info, err := range c.st.List(ctx, mirrorPath("manifests")) {
		if err != nil {
			return err
		}
		p := info.Key[len(mirrorDir)+1:]
		e, ok := left[p]
		delete(left, p)
		if !info.HasMD5 && ok {
			if info, err = c.st.Head(ctx, info.Key); err != nil {
				return err
			}
		}
		switch {
		case !manifestPath.MatchString(p):
		case !ok:
			c.differs(info.Key, "in the mirror but not in the newest generation")
		case info.HasMD5 && info.MD5 != e.MD5:
			c.differs(info.Key, "changed behind the log")
		}
	}
	for p := range left {
		c.differs(mirrorPath(p), "missing from the mirror")
	}
	return nil
}

const resendHint = "tritonops imgapi backup run --verify   # sends it again if this disk still has it"

// differs is a fault that does not break the generation: the log has the bytes.
func (c *checker) differs(key, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, Fault{Code: "mirror_differs", Path: key, Text: text,
		Fix: "tritonops imgapi backup run --verify   # puts the mirror right"})
}

func noGeneration(st store.Store, seq uint64) error {
	if seq == 0 {
		return fail.Hint(fail.New(fail.Failed, "%s: there is no backup yet", st), "tritonops imgapi backup run")
	}
	return fail.Hint(fail.New(fail.Failed, "%s: there is no generation %d", st, seq), "tritonops imgapi backup list")
}

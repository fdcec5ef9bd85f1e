package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// shipper brings image files into the mirror before the record that names them.
type shipper struct {
	st       store.Store
	storeID  string
	scan     *scanned
	progress Progress
	dry      bool

	mu       sync.Mutex
	uploaded int64               // bytes sent
	doomed   map[string]struct{} // condemned.json, once it was needed
}

// condemned says whether prune has marked the object. One that is taken over
// without being sent again must not be: its mark may be a day old.
func (sh *shipper) condemned(ctx context.Context, key string) (bool, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.doomed == nil {
		list, _, err := loadCondemned(ctx, sh.st, sh.storeID)
		if err != nil {
			return false, err
		}
		sh.doomed = make(map[string]struct{}, len(list.Objects))
		for _, o := range list.Objects {
			sh.doomed[o.Key] = struct{}{}
		}
	}
	_, ok := sh.doomed[key]
	return ok, nil
}

// ship makes every unhashed file's content known and stored.
func (sh *shipper) ship(ctx context.Context, parallel int) error {
	var total int64
	for _, f := range sh.scan.unhashed {
		total += f.Info.Size()
	}
	if len(sh.scan.unhashed) > 0 {
		sh.progress.Phase("image files", total, "bytes")
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, f := range sh.scan.unhashed {
		g.Go(func() error { return sh.file(gctx, f.Rel) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return nil
}

// file brings one image file into the store, or keeps the stored version and
// names the reason.
func (sh *shipper) file(ctx context.Context, p string) error {
	const tries = 3
	var err error
	for range tries {
		var e Entry
		var sig signature
		if e, sig, err = sh.store(ctx, p); err == nil {
			return sh.accept(ctx, e, sig)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted or replaced while we looked: see scanned.missing
		}
		if errors.Is(err, errUnreadable) {
			break
		}
		if !errors.Is(err, instance.ErrChanging) && !errors.Is(err, store.ErrCondition) && !errors.Is(err, store.ErrUnknownOutcome) {
			return err
		}
	}
	switch {
	case errors.Is(err, store.ErrCondition):
		return fmt.Errorf("%s: %w", mirrorPath(p), err)
	case errors.Is(err, store.ErrUnknownOutcome): // the file is well, the store is not: nothing to publish without it
		return fail.As(fail.Unreachable, err)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	code := "file_unsettled"
	if errors.Is(err, errUnreadable) {
		code = "object_damaged"
	}
	sh.scan.keep(p, code, err.Error())
	return nil
}

// store makes sure that the mirror holds the file's present content.
func (sh *shipper) store(ctx context.Context, p string) (Entry, signature, error) {
	key := mirrorPath(p)
	// Before the look: what is not marked now stays for a day whatever prune does.
	condemned, err := sh.condemned(ctx, key)
	if err != nil {
		return Entry{}, signature{}, err
	}
	there, err := sh.st.Head(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return sh.upload(ctx, p, store.IfAbsent())
	}
	if err != nil {
		return Entry{}, signature{}, err
	}
	e, sig, err := hashFile(ctx, sh.scan.inst, p, sh.progress.Add)
	if err != nil {
		return e, sig, err
	}
	if there.HasMD5 && there.MD5 == e.MD5 && there.Size == e.Size {
		if !condemned {
			return e, sig, nil
		}
		return sh.upload(ctx, p, store.IfMatch(there.ETag)) // a new etag takes it off the list
	}
	if _, ok := sh.scan.known.Get(p); ok && sh.refuse(ctx, &e) != "" {
		return e, sig, nil // accept keeps the stored version: nothing may be overwritten
	}
	if sh.dry {
		return e, sig, nil
	}
	if err := preserve(ctx, sh.st, key, there); err != nil {
		return e, sig, err
	}
	return sh.upload(ctx, p, store.IfMatch(there.ETag))
}

func (sh *shipper) upload(ctx context.Context, p string, cond store.Condition) (Entry, signature, error) {
	if sh.dry {
		return hashFile(ctx, sh.scan.inst, p, sh.progress.Add)
	}
	src, err := watch(sh.scan.inst, p, sh.progress.Add)
	if err != nil {
		return Entry{}, signature{}, err
	}
	sh.mu.Lock()
	src.want = sh.scan.wants[p].md5
	sh.mu.Unlock()
	info, err := sh.st.Put(ctx, mirrorPath(p), src, cond)
	if errors.Is(err, store.ErrUnknownOutcome) {
		return Entry{}, signature{}, err // what the object holds now decides; the loop in file compares it
	}
	sig, serr := src.settled()
	if serr != nil || err != nil {
		return Entry{}, signature{}, errors.Join(serr, err)
	}
	sh.mu.Lock()
	sh.uploaded += info.Size
	sh.mu.Unlock()
	return Entry{Path: p, Size: info.Size, MD5: info.MD5}, sig, nil
}

// accept takes an entry into the scan, unless its content contradicts the
// manifest and the backup has a version that may be the right one.
func (sh *shipper) accept(ctx context.Context, e Entry, sig signature) error {
	why := sh.refuse(ctx, &e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if why == "" {
		sh.scan.entries = append(sh.scan.entries, e)
		sh.scan.sigs[e.Path] = sig
		return nil
	}
	if old, ok := sh.scan.known.Get(e.Path); ok && !old.Same(e) {
		sh.scan.keep(e.Path, "file_damaged", why)
		return nil
	}
	// Without its signature: every run looks again and says so again.
	sh.scan.entries = append(sh.scan.entries, e)
	sh.scan.faults = append(sh.scan.faults, Fault{
		Code: "file_damaged", Path: e.Path, Text: "saved as it is, but it contradicts its manifest: " + why,
		Fix: "tritonops imgapi check-files " + e.UUID(),
	})
	return nil
}

// refuse says why the file cannot be what its manifest means. A manifest read
// before its file was replaced is read again, and taken into the scan when it has
// changed: record and file belong together.
func (sh *shipper) refuse(ctx context.Context, e *Entry) string {
	why := ""
	for try := range readTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err().Error()
			case <-time.After(readPause):
			}
		}
		sh.mu.Lock()
		_, asked := sh.scan.wants[e.Path]
		why = sh.scan.contradicts(*e)
		sh.mu.Unlock()
		if asked && why == "" {
			return ""
		}
		mf, sig, err := readManifest(ctx, sh.scan.inst, e.UUID())
		if old, ok := sh.scan.known.Get(e.Path); err != nil && ok && !old.Same(*e) && !errors.Is(err, fs.ErrNotExist) {
			return "its manifest cannot be read: " + err.Error() // and keeps its stored version: they belong together
		}
		if err != nil {
			return "" // no manifest to contradict, or one that is a fault of its own
		}
		sh.mu.Lock()
		sh.scan.renew(mf, sig)
		why = sh.scan.contradicts(*e)
		_, asked = sh.scan.wants[e.Path]
		sh.mu.Unlock()
		if why == "" || !asked {
			return ""
		}
	}
	return why
}

// renew replaces a manifest in the scan by a later reading.
func (s *scanned) renew(mf instance.ManifestFile, sig signature) {
	p := "manifests/" + mf.Manifest.UUID + ".raw"
	if s.pinned[p] {
		return
	}
	s.entries = slices.DeleteFunc(s.entries, func(o Entry) bool { return o.Path == p })
	s.take(mf, sig)
}

// watchedFile is a Source that notices when the file changes while it is sent.
type watchedFile struct {
	inst     *instance.Instance
	rel      string
	info     fs.FileInfo
	progress func(int64)
	want     []byte // MD5 its manifest gives, nil if none

	sent *progressReader // the latest attempt
}

func watch(inst *instance.Instance, rel string, progress func(int64)) (*watchedFile, error) {
	f, fi, err := openImage(inst, rel)
	if err != nil {
		return nil, err
	}
	return &watchedFile{inst: inst, rel: rel, info: fi, progress: progress}, f.Close()
}

// settled returns the file's signature if it is still what it was.
func (w *watchedFile) settled() (signature, error) {
	f, fi, err := openImage(w.inst, w.rel)
	if err != nil {
		return signature{}, err
	}
	defer f.Close()
	if !instance.SameVersion(w.info, fi) {
		return signature{}, fmt.Errorf("%s: %w", w.rel, instance.ErrChanging)
	}
	sig := signatureOf(fi)
	sig.Hashed = time.Now().UnixNano()
	return sig, nil
}

// Size is the size when the file was looked at.
func (w *watchedFile) Size() int64 { return w.info.Size() }

// Believed implements [store.Believer]: a file that is what its manifest says need
// not be hashed here.
func (w *watchedFile) Believed() (store.MD5, bool) {
	if len(w.want) != len(store.MD5{}) {
		return store.MD5{}, false
	}
	return store.MD5(w.want), true
}

// Open opens the file for one attempt, one after the other.
func (w *watchedFile) Open() (io.ReadCloser, error) {
	f, _, err := openImage(w.inst, w.rel)
	if err != nil {
		return nil, err
	}
	if w.sent != nil {
		w.sent.takeBack()
	}
	w.sent = &progressReader{ReadCloser: f, progress: w.progress}
	return w.sent, nil
}

// progressReader reports bytes as they are read, and takes them back when it is
// closed early, so that a retry does not count twice.
type progressReader struct {
	io.ReadCloser
	progress func(int64)
	n        atomic.Int64 // an abandoned request may still read
	ended    atomic.Bool
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n.Add(int64(n))
	r.progress(int64(n))
	if err == io.EOF {
		r.ended.Store(true)
	}
	return n, err
}

func (r *progressReader) Close() error {
	if !r.ended.Swap(true) {
		r.takeBack()
	}
	return r.ReadCloser.Close()
}

// takeBack makes what was read so far not count.
func (r *progressReader) takeBack() { r.progress(-r.n.Swap(0)) }

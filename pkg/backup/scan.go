package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/instance"
)

// seen is what local files were last found to hold, and how they looked then.
type seen struct {
	entries State
	sigs    map[string]signature
}

// entry returns a file's content if it looks as it did when it was hashed.
func (s seen) entry(p string, fi fs.FileInfo) (Entry, signature, bool) {
	sig, ok := s.sigs[p]
	if !ok || !sig.trusts(signatureOf(fi)) {
		return Entry{}, sig, false
	}
	e, ok := s.entries.Get(p)
	return e, sig, ok
}

// scanned is what the instance's disk holds, measured against a known state.
type scanned struct {
	inst     *instance.Instance
	known    State
	progress Progress
	entries  []Entry // with known content, sorted when complete
	sigs     map[string]signature
	// unhashed are image files whose content is not known yet: new or touched. They
	// are hashed while they are sent, or before when a copy may already be stored.
	unhashed []instance.ImageFile
	// kept are paths whose stored version stays as it is, whatever the disk says: a
	// torn manifest, an image file its manifest still names.
	kept   map[string]bool
	pinned map[string]bool   // manifests kept for the sake of a file
	wants  map[string]want   // by path: what the manifests that were read say of their files
	bytes  map[string][]byte // content of etc entries
	faults []Fault
	fresh  int // files that had to be read
}

// scan reads manifests before image files: the server writes a file before the
// manifest that names it, so every file a manifest names is there to be seen.
// known is the state to measure against.
func scan(ctx context.Context, inst *instance.Instance, known State, before seen, parallel int, progress Progress) (*scanned, error) {
	s := &scanned{
		inst: inst, known: known, progress: progress, sigs: make(map[string]signature, len(before.sigs)),
		kept: map[string]bool{}, pinned: map[string]bool{}, wants: map[string]want{},
	}
	var err error
	var odd []Fault
	if s.bytes, odd, err = etcFiles(inst); err != nil {
		return nil, err
	}
	for _, f := range odd {
		s.keep(f.Path, f.Code, f.Text)
	}
	for p, b := range s.bytes {
		s.entries = append(s.entries, inlineEntry(p, b))
	}
	if err := s.manifests(ctx, before, parallel); err != nil {
		return nil, err
	}
	return s, s.files(ctx, before)
}

// manifests reads what changed; a manifest that looks as it did when it was last
// hashed is not opened.
func (s *scanned) manifests(ctx context.Context, before seen, parallel int) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for m, err := range s.inst.Manifests(ctx) {
		if err != nil {
			var odd *instance.EntryError
			if !errors.As(err, &odd) {
				return errors.Join(err, g.Wait())
			}
			mu.Lock()
			s.keep(filepath.ToSlash(odd.Rel), "manifest_refused", err.Error())
			mu.Unlock()
			continue
		}
		p := "manifests/" + m.UUID + ".raw"
		s.progress.Add(1)
		if e, sig, ok := before.entry(p, m.Info); ok {
			mu.Lock()
			s.entries = append(s.entries, e)
			s.sigs[p] = sig
			mu.Unlock()
			continue
		}
		g.Go(func() error {
			mf, sig, err := readManifest(gctx, s.inst, m.UUID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case gctx.Err() != nil:
				return gctx.Err()
			case errors.Is(err, fs.ErrNotExist):
				return nil // deleted since the directory was listed
			case err != nil:
				s.keep(p, "manifest_unreadable", err.Error())
				return nil
			}
			s.fresh++
			s.take(mf, sig)
			return nil
		})
	}
	return g.Wait()
}

// take puts a manifest as it was just read into the scan.
func (s *scanned) take(mf instance.ManifestFile, sig signature) {
	e := inlineEntry("manifests/"+mf.Manifest.UUID+".raw", mf.Bytes)
	s.entries = append(s.entries, e)
	s.sigs[e.Path] = sig
	for _, w := range wants(mf.Manifest) {
		s.wants[w.path] = w
	}
}

// keep names a file that cannot be saved as it is. Its last good version, if the
// backup has one, stays: unreadable never counts as deleted.
func (s *scanned) keep(p, code, why string) {
	s.kept[p] = true
	f := Fault{Code: code, Path: p, Text: "not in the backup: " + why}
	if e, ok := s.known.Get(p); ok {
		s.keepEntry(e)
		f.Text = "the backup keeps its last good version: " + why
		if code == "manifest_unreadable" || code == "file_damaged" {
			f.Fix = "tritonops imgapi restore --image " + e.UUID() + "   # brings that version back"
		}
	}
	s.faults = append(s.faults, f)
}

// keepEntry puts a stored version into the scan. If it is an image file that the
// manifest on disk no longer means, the stored manifest stays with it.
func (s *scanned) keepEntry(e Entry) {
	s.entries = append(s.entries, e)
	if s.contradicts(e) == "" {
		return
	}
	m := manifestOf(e.Path)
	s.kept[m], s.pinned[m] = true, true
	delete(s.sigs, m)
	s.entries = slices.DeleteFunc(s.entries, func(o Entry) bool { return o.Path == m })
	if old, ok := s.known.Get(m); ok {
		s.entries = append(s.entries, old)
	}
}

func (s *scanned) files(ctx context.Context, before seen) error {
	for f, err := range s.inst.ImageFiles(ctx) {
		if err != nil {
			var odd *instance.EntryError
			if !errors.As(err, &odd) {
				return err
			}
			s.refused(filepath.ToSlash(odd.Rel), err)
			continue
		}
		s.progress.Add(1)
		e, sig, ok := before.entry(f.Rel, f.Info)
		// Only of what this log names is it known that this store holds it.
		if old, stored := s.known.Get(f.Rel); ok && stored && old.Same(e) {
			s.entries = append(s.entries, e)
			s.sigs[f.Rel] = sig
			continue
		}
		s.unhashed = append(s.unhashed, f)
		s.fresh++
	}
	return nil
}

// refused handles something that is not a plain file where an image's file or
// directory belongs: everything known below it is kept.
func (s *scanned) refused(rel string, why error) {
	found := false
	for _, e := range s.known.Entries() {
		if e.Path == rel || len(e.Path) > len(rel) && e.Path[:len(rel)+1] == rel+"/" {
			s.keep(e.Path, "file_refused", why.Error())
			found = true
		}
	}
	if !found {
		s.keep(rel, "file_refused", why.Error())
	}
}

// missing looks at the image files that should be on disk and are not. One that a
// manifest on disk still names was lost, not deleted: it stays in the backup and
// is a fault. To know, the manifest is read again: deleting an image removes the
// manifest first. Call it when nothing is unhashed any more.
func (s *scanned) missing(ctx context.Context) error {
	slices.SortFunc(s.entries, byPath)
	found := State{s.entries}
	onDisk := func(p string) bool { _, ok := found.Get(p); return ok }
	absent := map[string]bool{}
	for _, e := range s.known.Entries() {
		if !e.Inline() && !onDisk(e.Path) && onDisk(manifestOf(e.Path)) {
			absent[e.Path] = true
		}
	}
	for p := range s.wants {
		if !onDisk(p) && !s.kept[p] {
			absent[p] = true
		}
	}
	if len(absent) == 0 {
		return nil
	}
	gone := map[string]bool{}
	s.entries = slices.Clone(s.entries) // found goes on looking at the old ones
	for p := range absent {
		named, err := s.stillNames(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			gone[manifestOf(p)] = true
		case err != nil || named:
			if m := imagePath.FindStringSubmatch(p); m != nil {
				if _, err := s.inst.StatImageFile(m[2], m[3]); err == nil {
					return fmt.Errorf("%s: came while the others were read: %w", p, instance.ErrChanging)
				}
			}
			s.lost(p)
		}
	}
	s.entries = slices.DeleteFunc(s.entries, func(e Entry) bool { return gone[e.Path] })
	slices.SortFunc(s.entries, byPath)
	return nil
}

func manifestOf(filePath string) string { return "manifests/" + pathUUID(filePath) + ".raw" }

// stillNames reads the manifest of an image file again. A manifest that cannot
// be read names everything it ever named.
func (s *scanned) stillNames(ctx context.Context, p string) (bool, error) {
	if s.kept[manifestOf(p)] {
		return true, nil
	}
	mf, _, err := readManifest(ctx, s.inst, pathUUID(p))
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(wants(mf.Manifest), func(w want) bool { return w.path == p }), nil
}

func (s *scanned) lost(p string) {
	f := Fault{Code: "file_missing", Path: p, Text: "missing on this disk though its manifest names it, and the backup has no copy"}
	s.kept[p] = true
	if e, ok := s.known.Get(p); ok {
		s.keepEntry(e)
		f.Text = "missing on this disk though its manifest names it; the backup keeps its copy"
		f.Fix = "tritonops imgapi restore --image " + pathUUID(p)
	} else {
		delete(s.sigs, manifestOf(p)) // read it again the next time, or the fault would be named once only
	}
	s.faults = append(s.faults, f)
}

// contradicts says why a file's content cannot be what its manifest means, or "".
func (s *scanned) contradicts(e Entry) string {
	w, ok := s.wants[e.Path]
	switch {
	case !ok:
		return ""
	case w.size > 0 && w.size != e.Size: // 0: the manifest does not say; the server takes no empty file
		return fmt.Sprintf("%d bytes, its manifest says %d", e.Size, w.size)
	case w.md5 != nil && !bytes.Equal(w.md5, e.MD5[:]):
		return fmt.Sprintf("content MD5 %x, its manifest says %x", e.MD5, w.md5)
	}
	return ""
}

// diff measures the disk against the state. Call it when nothing is unhashed any
// more.
func (s *scanned) diff() Changes {
	var c Changes
	local := State{s.entries}
	for _, e := range local.entries {
		if old, ok := s.known.Get(e.Path); !ok || !old.Same(e) {
			c.Puts = append(c.Puts, e)
		}
	}
	for _, e := range s.known.entries {
		if _, ok := local.Get(e.Path); !ok {
			c.Deletes = append(c.Deletes, e.Path)
		}
	}
	return c
}

// content reads an inline entry's bytes for a record: from the scan for files of
// etc, from disk for manifests. One that changed since is errUnsettled.
func (s *scanned) content(e Entry) ([]byte, error) {
	if b, ok := s.bytes[e.Path]; ok {
		return b, nil
	}
	b, _, err := instance.ReadStable(filepath.Join(s.inst.DataDir(), filepath.FromSlash(e.Path)), maxInline)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !inlineEntry(e.Path, b).Same(e) {
		err = fmt.Errorf("%s: %w", e.Path, instance.ErrChanging)
	}
	return b, err
}

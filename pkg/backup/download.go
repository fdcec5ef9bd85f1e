package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// fileSink writes the inline entries of a replay as files below dir.
type fileSink struct {
	dir  string
	keep func(Entry) bool
	made map[string]bool
}

func (s *fileSink) Reset() error {
	s.made = map[string]bool{}
	for _, d := range []string{"manifests", "etc"} {
		if err := os.RemoveAll(filepath.Join(s.dir, d)); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSink) Put(e Entry, content []byte) error {
	if !e.Inline() || !s.keep(e) {
		return nil
	}
	p := filepath.Join(s.dir, filepath.FromSlash(e.Path))
	if d := filepath.Dir(p); !s.made[d] {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		s.made[d] = true
	}
	return os.WriteFile(p, content, 0o644)
}

func (s *fileSink) Delete(p string) error {
	if strings.HasPrefix(p, "images/") {
		return nil
	}
	err := os.Remove(filepath.Join(s.dir, filepath.FromSlash(p)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// download brings everything into the staging directory, verified. Called again
// it keeps what is already there and right.
func (r *Restorer) download(ctx context.Context) (Restored, error) {
	if r.Params.Generation == 0 {
		return r.downloadMirror(ctx)
	}
	seq := r.Params.Generation
	for {
		got, err := r.downloadGeneration(ctx, seq)
		if !errors.Is(err, errLost) || !r.Params.Latest {
			return got, err
		}
		// Prune may have been faster than the mark: a newer generation is whole.
		log, lerr := OpenLog(ctx, r.Store, nil)
		if lerr != nil || log.HeadSeq() <= seq {
			return got, errors.Join(err, lerr)
		}
		r.progress.Note(fmt.Sprintf("generation %d is no longer whole, taking %d", seq, log.HeadSeq()))
		seq = log.HeadSeq()
	}
}

// errLost is wrapped when an object the generation names is in no place.
var errLost = errors.New("not in the store any more")

func (r *Restorer) downloadGeneration(ctx context.Context, seq uint64) (Restored, error) {
	got := Restored{Generation: seq}
	log, err := OpenLog(ctx, r.Store, r.progress.Note)
	if err != nil {
		return got, err
	}
	r.progress.Phase("manifests", 0, "records")
	pos, err := log.StateAt(ctx, seq, &fileSink{dir: r.stage(), keep: r.wanted})
	if err != nil {
		return got, err
	}
	r.at = pos
	var files []fetch
	for _, e := range pos.State.entries {
		switch {
		case !r.wanted(e):
		case e.Manifest():
			got.Manifests++
			got.Bytes += e.Size
		case !e.Inline():
			files = append(files, fetch{Entry: e})
		}
	}
	if got.Manifests == 0 && r.Params.Image != "" {
		return got, noImage(r.Store, seq, r.Params.Image)
	}
	return r.complete(ctx, got, files)
}

func noImage(st store.Store, seq uint64, uuid string) error {
	return fail.Hint(fail.New(fail.Failed, "%s: generation %d has no image %s", st, seq, uuid),
		"tritonops imgapi restore --at TIME --image %s   # a moment when it was there; `backup list` shows when images went", uuid)
}

// wanted says whether an entry is part of this restore.
func (r *Restorer) wanted(e Entry) bool {
	if strings.HasPrefix(e.Path, "etc/") {
		return r.Params.WithKeys && strings.HasPrefix(e.Path, "etc/authkeys/") || !r.inPlace() && r.wholeTree()
	}
	return r.wholeTree() || e.UUID() == r.Params.Image
}

// complete fetches the image files, looks after files kept elsewhere, owner and
// mode, and makes all of it durable.
func (r *Restorer) complete(ctx context.Context, got Restored, files []fetch) (Restored, error) {
	if err := r.sweep(files); err != nil {
		return got, err
	}
	if err := r.fetchAll(ctx, &got, files); err != nil {
		return got, err
	}
	for _, d := range []string{"images", "manifests"} {
		if err := os.MkdirAll(filepath.Join(r.stage(), d), 0o755); r.wholeTree() && err != nil {
			return got, err
		}
	}
	if err := r.elsewhere(ctx, &got); err != nil {
		return got, err
	}
	if err := r.origin(&got); err != nil {
		return got, err
	}
	if err := r.own(); err != nil {
		return got, err
	}
	return got, durable.SyncTree(r.stage())
}

// sweep removes what an earlier attempt, perhaps at another generation, staged and
// this one does not name. files are sorted by path.
func (r *Restorer) sweep(files []fetch) error {
	top := filepath.Join(r.stage(), "images")
	err := filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(r.stage(), p)
		if err != nil {
			return err
		}
		_, named := slices.BinarySearchFunc(files, filepath.ToSlash(rel), func(f fetch, p string) int { return strings.Compare(f.Path, p) })
		if named {
			return nil
		}
		return os.Remove(p)
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// fetch is one image file to be staged. Key is where its bytes are, "" until
// located.
type fetch struct {
	Entry
	key string
}

func (r *Restorer) fetchAll(ctx context.Context, got *Restored, files []fetch) error {
	var total int64
	for _, f := range files {
		total += f.Size
	}
	if len(files) > 0 {
		r.progress.Phase("image files", total, "bytes")
	}
	var mu sync.Mutex
	var lost []Fault
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, f := range files {
		g.Go(func() error {
			reused, err := r.fetchOne(gctx, f)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errLost):
				lost = append(lost, Fault{Code: "object_lost", Path: f.Path, Text: err.Error()})
				return nil
			case err != nil:
				return err
			}
			got.Files++
			got.Bytes += f.Size
			if reused {
				got.Reused++
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(lost) > 0 && !r.Params.SkipLost {
		return fail.Hint(fmt.Errorf("%s: generation %d: %d image files, the first %s: %w", r.Store, got.Generation, len(lost), lost[0].Path, errLost),
			"tritonops imgapi restore --accept-risk lost-files   # after `runs undo`: restores the rest and names what is gone")
	}
	got.Faults = append(got.Faults, lost...)
	return nil
}

// fetchOne stages one image file: from an earlier attempt, from the live data,
// or from the store.
func (r *Restorer) fetchOne(ctx context.Context, f fetch) (reused bool, err error) {
	to := filepath.Join(r.stage(), filepath.FromSlash(f.Path))
	if holds(ctx, to, f.Entry) {
		r.progress.Add(f.Size)
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return false, err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	// The server never rewrites an image file in place, so a link is as good as a copy.
	// What is looked at is the link: nobody can put another file in its place.
	live := filepath.Join(r.Instance.DataDir(), filepath.FromSlash(f.Path))
	if r.linkable(f.Entry) && os.Link(live, to) == nil {
		if holds(ctx, to, f.Entry) {
			r.progress.Add(f.Size)
			return true, nil
		}
		if err := os.Remove(to); err != nil {
			return false, err
		}
	}
	if f.key == "" {
		there, err := r.Store.Head(ctx, mirrorPath(f.Path))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if f.key, err = locate(ctx, r.Store, f.Entry, there); err != nil {
			return false, err
		}
	}
	if f.key == "" {
		return false, fmt.Errorf("%d bytes with MD5 %x: %w", f.Size, f.MD5, errLost)
	}
	return false, r.get(ctx, f, to)
}

// linkable says whether the live file may become the restored one: an image file
// that no symbolic link leads to. One outside would change its owner with ours.
func (r *Restorer) linkable(e Entry) bool {
	name := path.Base(e.Path)
	_, err := r.Instance.StatImageFile(e.UUID(), name)
	return strings.HasPrefix(name, "file") && err == nil
}

// holds says whether the file is exactly the entry's content.
func holds(ctx context.Context, p string, e Entry) bool {
	f, fi, err := instance.OpenPlain(p)
	if err != nil {
		return false
	}
	defer f.Close()
	if fi.Size() != e.Size {
		return false
	}
	h := newSums()
	_, err = io.Copy(h.m, ctxReader{ctx, f})
	return err == nil && h.md5() == e.MD5
}

func (r *Restorer) get(ctx context.Context, f fetch, to string) error {
	rc, _, err := r.Store.Get(ctx, f.key)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s: %w", f.key, errLost)
	}
	if err != nil {
		return err
	}
	defer rc.Close()
	out, err := os.OpenFile(to+durable.TempPrefix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	h := newSums()
	n, err := io.CopyBuffer(io.MultiWriter(out, h.m), &progressReader{ReadCloser: rc, progress: r.progress.Add}, make([]byte, 256<<10))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil && (n != f.Size || h.md5() != f.MD5) {
		err = fmt.Errorf("%s: %d bytes with MD5 %x instead of %d with %x: %w", f.key, n, h.md5(), f.Size, f.MD5, store.ErrCorrupt)
	}
	if err != nil {
		return errors.Join(err, os.Remove(to+durable.TempPrefix))
	}
	return os.Rename(to+durable.TempPrefix, to)
}

// elsewhere names the images of an earlier generation whose file the server keeps
// in Manta, outside the backup, and which is no longer there.
func (r *Restorer) elsewhere(ctx context.Context, got *Restored) error {
	if r.Params.Generation == 0 || r.Params.Latest {
		return nil
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	err := r.staged(func(name string, m *instance.Manifest, err error) {
		if err != nil {
			mu.Lock()
			got.Faults = append(got.Faults, unreadableManifest(name, err))
			mu.Unlock()
			return
		}
		for i, f := range m.Files {
			if f.Stor != "manta" {
				continue
			}
			key := instance.RelFile(m.UUID, fmt.Sprintf("file%d", i))
			g.Go(func() error {
				_, err := r.Store.Head(gctx, key)
				if !errors.Is(err, store.ErrNotFound) {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				got.Faults = append(got.Faults, Fault{Code: "file_gone", Path: key, Text: fmt.Sprintf("kept by the server itself, outside the backup, and not in %s", r.Store)})
				return nil
			})
		}
	})
	return errors.Join(err, g.Wait())
}

// origin names the image that a single restored one builds on, if this disk does
// not have it.
func (r *Restorer) origin(got *Restored) error {
	if r.wholeTree() || !r.inPlace() {
		return nil
	}
	return r.staged(func(_ string, m *instance.Manifest, err error) {
		if err != nil || m.Origin == "" || exists(r.Instance.ManifestPath(m.Origin)) {
			return
		}
		got.Faults = append(got.Faults, Fault{
			Code: "origin_missing", Path: "manifests/" + m.Origin + ".raw", Text: "image " + m.UUID + " builds on it, and this disk does not have it",
			Fix: "tritonops imgapi restore --image " + m.Origin,
		})
	})
}

func unreadableManifest(name string, err error) Fault {
	return Fault{Code: "manifest_unreadable", Path: "manifests/" + name, Text: err.Error()}
}

// staged visits every staged manifest.
func (r *Restorer) staged(visit func(name string, m *instance.Manifest, err error)) error {
	dir := filepath.Join(r.stage(), "manifests")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range entries {
		b, err := os.ReadFile(filepath.Join(dir, d.Name()))
		if err != nil {
			return err
		}
		m, err := instance.ParseManifest(b)
		visit(d.Name(), m, err)
	}
	return nil
}

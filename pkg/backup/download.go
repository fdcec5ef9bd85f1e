package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	if err := r.own(); err != nil {
		return got, err
	}
	return got, durable.SyncTree(r.stage())
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
	live := filepath.Join(r.Instance.DataDir(), filepath.FromSlash(f.Path))
	if strings.HasPrefix(filepath.Base(live), "file") && holds(ctx, live, f.Entry) && os.Link(live, to) == nil {
		r.progress.Add(f.Size)
		return true, nil
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
			got.Faults = append(got.Faults, unreadable(name, err))
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
				got.Faults = append(got.Faults, Fault{Code: "file_gone", Path: key, Text: "kept in Manta by the server, and no longer there"})
				return nil
			})
		}
	})
	return errors.Join(err, g.Wait())
}

func unreadable(name string, err error) Fault {
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

// own gives the staged tree to the stock server's user, where this process may.
func (r *Restorer) own() error {
	if os.Geteuid() != 0 || !r.inPlace() {
		return nil
	}
	uid, gid, err := r.Instance.Owner()
	if err != nil {
		return err
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	return filepath.WalkDir(r.stage(), func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, uid, gid)
	})
}

// downloadMirror restores a backup without a log, as the stock scripts leave it:
// what the mirror lists is all that is known.
func (r *Restorer) downloadMirror(ctx context.Context) (Restored, error) {
	var got Restored
	var files []fetch
	leftovers := 0
	for _, top := range []string{"manifests", "images"} {
		err := walkTree(ctx, r.Store, mirrorPath(top), 3, func(info store.Info) error {
			p := info.Key[len(mirrorDir)+1:]
			if leftoverPath.MatchString(p) { // the stock script saves these too
				leftovers++
				return nil
			}
			if err := checkPath(p); err != nil {
				got.Faults = append(got.Faults, Fault{Code: "odd_name", Path: info.Key, Text: "not restored: " + err.Error()})
				return nil
			}
			if !info.HasMD5 {
				var err error
				if info, err = r.Store.Head(ctx, info.Key); err != nil {
					return err
				}
			}
			e := Entry{Path: p, Size: info.Size, MD5: info.MD5}
			if r.wanted(e) {
				files = append(files, fetch{Entry: e, key: info.Key})
			}
			return nil
		})
		if err != nil {
			return got, err
		}
	}
	if leftovers > 0 {
		r.progress.Note(fmt.Sprintf("%d leftover uploads in the mirror are no data and are not restored", leftovers))
	}
	for _, f := range files {
		if f.Manifest() {
			got.Manifests++
			got.Files--
		}
	}
	got, err := r.complete(ctx, got, files)
	if err != nil {
		return got, err
	}
	// The old backup may have caught manifests half-written.
	err = r.staged(func(name string, _ *instance.Manifest, err error) {
		if err != nil {
			got.Faults = append(got.Faults, unreadable(name, err))
		}
	})
	return got, err
}

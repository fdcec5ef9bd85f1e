package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
)

// downloadMirror restores a backup without a log, as the stock scripts leave it:
// what the mirror lists is all that is known.
func (r *Restorer) downloadMirror(ctx context.Context) (Restored, error) {
	var got Restored
	files, err := r.mirrorFiles(ctx, &got)
	if err != nil {
		return got, err
	}
	for _, f := range files {
		if f.Manifest() {
			got.Manifests++
			got.Files--
		}
	}
	switch {
	case got.Manifests == 0 && r.Params.Image != "":
		return got, fail.New(fail.Failed, "%s: its mirror has no image %s", r.Store, r.Params.Image)
	case got.Manifests == 0:
		return got, fail.New(fail.Failed, "%s: its mirror has no manifest", r.Store)
	}
	if err := os.RemoveAll(filepath.Join(r.stage(), "manifests")); err != nil {
		return got, err
	}
	if got, err = r.complete(ctx, got, files); err != nil {
		return got, err
	}
	// The old backup may have caught manifests half-written.
	err = r.staged(func(name string, _ *instance.Manifest, err error) {
		if err != nil {
			got.Faults = append(got.Faults, unreadableManifest(name, err))
		}
	})
	return got, err
}

// mirrorFiles lists what is wanted of the mirror, sorted by path.
func (r *Restorer) mirrorFiles(ctx context.Context, got *Restored) (files []fetch, err error) {
	leftovers := 0
	visit := func(info store.Info) error {
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
	}
	for _, top := range []string{"manifests", "images"} {
		if err := walkTree(ctx, r.Store, mirrorPath(top), 3, visit); err != nil {
			return nil, err
		}
	}
	if leftovers > 0 {
		r.progress.Note(fmt.Sprintf("%d leftover uploads in the mirror are no data and are not restored", leftovers))
	}
	slices.SortFunc(files, func(a, b fetch) int { return byPath(a.Entry, b.Entry) })
	return files, nil
}

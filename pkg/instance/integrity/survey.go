package integrity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/instance"
)

// A manifest met half-written is read again this often, with this pause: the
// server writes one in well under a millisecond.
const (
	settleTries = 5
	settlePause = 50 * time.Millisecond
)

// Select says which image files a survey is about.
type Select struct {
	UUIDs    []string // these images only; empty: all
	Stor     string   // Local or Manta only; "": both
	DockerV2 bool     // only layers of Docker images with manifest version 2
}

// ManifestFault is a manifest that cannot be read or that the server leaves out
// when it starts.
type ManifestFault struct {
	UUID     string `json:"uuid"`
	Rejected bool   `json:"rejected"` // readable, but not by the server's rules
	Reason   string `json:"reason"`
}

// Survey is what the manifests on disk say there is to check.
type Survey struct {
	UUIDs     []string        // of the images with files to check, in order
	Files     int             // number of files to check
	Bytes     int64           // their size
	NoFile    int             // images that have no file (yet)
	Manifests []ManifestFault // what is wrong with manifests
	Graph     Graph           // of all images; empty when Select named some

	instance *instance.Instance
	sel      Select
}

// Take reads the manifests. An image that is selected by UUID and has none is
// fs.ErrNotExist; a manifest that cannot be read is a finding, not an error.
func Take(ctx context.Context, i *instance.Instance, sel Select) (*Survey, error) {
	s := &Survey{instance: i, sel: sel, Manifests: []ManifestFault{}}
	if len(sel.UUIDs) > 0 {
		for _, uuid := range slices.Compact(slices.Sorted(slices.Values(sel.UUIDs))) {
			if err := s.look(ctx, uuid); err != nil {
				return nil, fmt.Errorf("image %s: %w", uuid, err)
			}
		}
		return s, nil
	}
	for e, err := range i.Manifests(ctx) {
		switch {
		case errors.Is(err, instance.ErrNotRegular) && e.UUID != "":
			s.Manifests = append(s.Manifests, ManifestFault{UUID: e.UUID, Reason: err.Error()})
		case err != nil:
			return nil, err
		default:
			if err := s.look(ctx, e.UUID); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return s, nil
}

// look reads one manifest and notes what it says. The error is fs.ErrNotExist or
// that of ctx.
func (s *Survey) look(ctx context.Context, uuid string) error {
	mf, err := s.instance.ReadManifestSettled(ctx, uuid, settleTries, settlePause)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.Manifests = append(s.Manifests, ManifestFault{UUID: uuid, Reason: err.Error()})
		return nil
	}
	m := mf.Manifest
	if len(s.sel.UUIDs) == 0 {
		s.Graph.Add(m.UUID, m.Origin)
	}
	if !s.sel.matches(m) {
		return nil
	}
	if r := m.Rejections(s.instance.Config); r != nil {
		s.Manifests = append(s.Manifests, ManifestFault{UUID: uuid, Rejected: true, Reason: r.Error()})
	}
	if len(m.Files) == 0 {
		s.NoFile++
	}
	n := 0
	for _, f := range m.Files {
		if s.sel.stored(f) {
			n++
			s.Bytes += f.Size
		}
	}
	s.Files += n
	if n > 0 {
		s.UUIDs = append(s.UUIDs, uuid)
	}
	return nil
}

func (sel Select) matches(m *instance.Manifest) bool {
	return !sel.DockerV2 || strings.HasPrefix(m.TagString("docker:id"), "sha256:")
}

func (sel Select) stored(f instance.File) bool {
	stor := f.Stor
	if stor == "" {
		stor = Local
	}
	return sel.Stor == "" || sel.Stor == stor
}

// Targets yields the files of the survey. Each manifest is read again when its
// turn comes: what matters is what it says then. One that has become unreadable
// meanwhile is added to Manifests, which is complete only after the last target.
func (s *Survey) Targets(ctx context.Context) iter.Seq2[Target, error] {
	return func(yield func(Target, error) bool) {
		for _, uuid := range s.UUIDs {
			mf, err := s.instance.ReadManifestSettled(ctx, uuid, settleTries, settlePause)
			switch {
			case ctx.Err() != nil:
				yield(Target{}, ctx.Err())
				return
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				s.Manifests = append(s.Manifests, ManifestFault{UUID: uuid, Reason: err.Error()})
				continue
			}
			for _, t := range Targets(mf.Manifest) {
				if s.sel.stored(t.Want) && !yield(t, nil) {
					return
				}
			}
		}
	}
}

// Reread returns the current manifest entry of a target's file, for
// [Checker.Reread].
func (s *Survey) Reread(ctx context.Context, t Target) (instance.File, bool, error) {
	mf, err := s.instance.ReadManifestSettled(ctx, t.UUID, settleTries, settlePause)
	if errors.Is(err, fs.ErrNotExist) {
		return instance.File{}, false, nil
	}
	if err != nil {
		return instance.File{}, false, err
	}
	for _, now := range Targets(mf.Manifest) {
		if now.File == t.File {
			return now.Want, true, nil
		}
	}
	return instance.File{}, false, nil
}

// Image names an image for people.
type Image struct {
	UUID    string `json:"uuid"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Fault is a file that is not ok, with what follows from it.
type Fault struct {
	Result
	// Leftover is the name of a leftover upload beside a missing file that is that
	// file, "" for none.
	Leftover string `json:"leftover"`
	// Dependents are the image and all that were made from it, in the order in which
	// they can be deleted; Heads those of them that nothing was made from.
	Dependents []Image `json:"dependents"`
	Heads      []Image `json:"heads"`
}

// Explain finds out what a result that is not ok means for other images.
func (s *Survey) Explain(ctx context.Context, r Result) (Fault, error) {
	f := Fault{Result: r}
	if len(s.sel.UUIDs) > 0 && s.Graph.children == nil {
		if err := s.readGraph(ctx); err != nil {
			return f, err
		}
	}
	order, heads := s.Graph.Dependents(r.UUID)
	f.Dependents, f.Heads = s.images(ctx, order), s.images(ctx, heads)
	if r.State == Missing && r.Stor == Local {
		want, ok, err := s.Reread(ctx, Target{UUID: r.UUID, File: r.File})
		if err == nil && ok {
			f.Leftover, err = Leftover(ctx, s.instance, r.UUID, want)
		}
		if err != nil {
			return f, err
		}
	}
	return f, ctx.Err()
}

// readGraph reads the origins of all images, which a survey of a few has not.
func (s *Survey) readGraph(ctx context.Context) error {
	all, err := Take(ctx, s.instance, Select{})
	if err != nil {
		return err
	}
	if s.Graph = all.Graph; s.Graph.children == nil {
		s.Graph.children = map[string][]string{}
	}
	return nil
}

// images looks up the names. An image whose manifest cannot be read has none.
func (s *Survey) images(ctx context.Context, uuids []string) []Image {
	out := make([]Image, len(uuids))
	for n, uuid := range uuids {
		out[n].UUID = uuid
		if mf, err := s.instance.ReadManifest(ctx, uuid); err == nil {
			out[n].Name, out[n].Version = mf.Manifest.Name, mf.Manifest.Version
		}
	}
	return out
}

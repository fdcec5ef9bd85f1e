package mantastore

import (
	"context"
	"errors"
	"path"

	"github.com/tritonops/tritonops/pkg/manta"
)

// put writes an object and makes the directories it lacks. Manta answers a missing
// parent before anything else, so the request was not applied, condition or not,
// and can be sent again.
func (s *Store) put(ctx context.Context, at string, src manta.Source, o manta.PutOptions) (manta.Info, error) {
	dir := path.Dir(at)
	// Three rounds: someone may remove directories while we make them, but not for ever.
	for round := 1; ; round++ {
		info, err := s.client.Put(ctx, at, src, o)
		if round == 3 || !errors.Is(err, manta.ErrParentMissing) {
			return info, err
		}
		_, err, _ = s.making.Do(dir, func() (any, error) { return nil, s.mkdir(ctx, dir) })
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.Canceled)) { // cancelled may be whom we waited for
			return manta.Info{}, err
		}
	}
}

// mkdir makes a directory that is missing, and its parents if they are. It works
// from the bottom up and not with the client's own MkdirAll, which begins at the
// top as the npm client does: Manta lets a directory replace an object, so making
// one is only safe where nothing is known to be.
func (s *Store) mkdir(ctx context.Context, dir string) error {
	err := s.client.Mkdir(ctx, dir)
	if !errors.Is(err, manta.ErrParentMissing) || dir == "/" {
		return err
	}
	if err := s.mkdir(ctx, path.Dir(dir)); err != nil {
		return err
	}
	return s.client.Mkdir(ctx, dir)
}

package status

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/instance"
)

// imageState is what a manifest on disk says, as far as the list is concerned.
type imageState uint8

const (
	absent imageState = iota // not on disk
	active                   // the server should list it
	other                    // unactivated, disabled, being made
	unsure                   // cannot be read, or the server leaves it out: not compared
)

// scan is one walk over the manifests.
type scan struct {
	images   map[imageID]imageState
	active   int
	broken   []string // "uuid: why": cannot be read
	left     []string // "uuid: why": the server leaves it out when it starts
	local    files
	manta    files
	noFolder bool
	partial  bool // time ran out before the end
}

// files counts image files.
type files struct {
	n     int
	bytes uint64
}

func (f *files) add(size int64) {
	f.n++
	f.bytes += uint64(max(size, 0))
}

// scanners is how many manifests are read at a time: enough to keep a disk
// busy, few enough to leave the server its own.
const scanners = 4

// scanShare is how much of the time there is a scan may take: what it found must
// still be told, and a list be compared with it.
const scanShare = 0.7

// scan walks the manifests. A manifest that is gone when it is read was deleted
// meanwhile. When time runs short it returns what it has, marked as partial.
func (r *run) scan(all context.Context) (*scan, error) {
	ctx, cancel := all, context.CancelFunc(func() {})
	if deadline, ok := all.Deadline(); ok {
		ctx, cancel = context.WithTimeout(all, time.Duration(float64(time.Until(deadline))*scanShare))
	}
	defer cancel()
	s := &scan{images: make(map[imageID]imageState)}
	err := r.walk(ctx, s)
	if err != nil && ctx.Err() != nil && all.Err() == nil {
		s.partial, err = true, nil
	}
	return s, err
}

// walk fills s.
func (r *run) walk(ctx context.Context, s *scan) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	uuids := make(chan string, 64)
	defer close(uuids)
	for range scanners {
		wg.Go(func() {
			for uuid := range uuids {
				m, err := r.Instance.ReadManifestSettled(ctx, uuid, settleTries, settlePause)
				mu.Lock()
				s.add(r.Instance.Config, uuid, m.Manifest, err)
				mu.Unlock()
			}
		})
	}
	for e, err := range r.Instance.Manifests(ctx) {
		var odd *instance.EntryError
		switch {
		case errors.As(err, &odd):
			mu.Lock()
			s.add(r.Instance.Config, e.UUID, nil, err)
			mu.Unlock()
		case errors.Is(err, fs.ErrNotExist):
			s.noFolder = true
		case err != nil:
			return err
		default:
			select {
			case uuids <- e.UUID:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return ctx.Err()
}

// add takes one manifest in.
func (s *scan) add(cfg *instance.Config, uuid string, m *instance.Manifest, err error) {
	id := idOf(uuid)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return // not looked at
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.images[id] = unsure
			s.broken = append(s.broken, uuid+": "+err.Error())
		}
		return
	}
	for _, f := range m.Files {
		if f.Stor == "manta" {
			s.manta.add(f.Size)
		} else {
			s.local.add(f.Size)
		}
	}
	switch why := m.Rejections(cfg); {
	case why != nil:
		s.images[id] = unsure
		s.left = append(s.left, uuid+": "+why.Error())
	case m.State() == "active":
		s.images[id] = active
		s.active++
	default:
		s.images[id] = other
	}
}

// manifests finds what the server cannot read or will not take: it says so in
// its log only, and serves everything else.
func (r *run) manifests(ctx context.Context) health.Result {
	s, err := r.scanned.get(ctx, r.scan)
	dir := r.Instance.ManifestsDir()
	switch {
	case err != nil:
		return health.Faultf("%s cannot be read", dir).Saw("%v", err).Because("what the instance holds is not known")
	case s.noFolder:
		return health.NAf("%s does not exist: no image is on this disk", dir)
	case s.partial && len(s.broken) == 0 && len(s.left) == 0:
		return health.Warnf("only %d were read in the time there was", len(s.images)).Saw("%s", dir).
			Because("the others were not looked at").Do(moreTime)
	case len(s.broken) == 0 && len(s.left) == 0:
		return health.Okf("%d manifests, %d of active images", len(s.images), s.active).Saw("%s", dir)
	}
	f := health.Faultf("%d cannot be read, %d would be left out by the server, of %d looked at", len(s.broken), len(s.left), len(s.images)).Saw("%s", dir)
	slices.Sort(s.broken)
	slices.Sort(s.left)
	for _, line := range append(slices.Clone(head(s.broken)), head(s.left)...) {
		f = f.Saw("%s", line)
	}
	return f.Because("an image whose manifest the server cannot use vanishes at its next start, without any other sign").
		Do("compare with the last good version in the backup: tritonops imgapi restore --image UUID --dry-run",
			"read the server's log for \"error loading\": svcs -L imgapi")
}

// moreTime is what to do where time ran out.
const moreTime = "allow more time with --timeout"

// durability says where the image files live. A file with stor local lives on
// this disk, and in the backup as of its last run.
func (r *run) durability(ctx context.Context) health.Result {
	s, err := r.scanned.get(ctx, r.scan)
	if err != nil {
		return health.Result{Status: health.Unknown, Summary: fail.Text(err)}
	}
	cfg := r.Instance.Config
	inManta := slices.Contains(cfg.StorageTypes, "manta")
	where := "storage types: " + strings.Join(cfg.StorageTypes, ", ")
	if s.partial {
		where += "; counted over the manifests that were read in the time there was"
	}
	switch {
	case s.local.n == 0 && s.manta.n == 0:
		return health.NAf("no image files")
	case s.local.n == 0:
		return health.Okf("all %d image files (%s) are in Manta", s.manta.n, size(s.manta.bytes)).Saw("%s", where)
	}
	warn := health.Warnf("%d image files (%s) are on this disk", s.local.n, size(s.local.bytes)).Saw("%s", where).Saw("%d image files (%s) are in Manta", s.manta.n, size(s.manta.bytes))
	switch {
	case cfg.Manta == nil:
		return warn.Because("they are on this disk only: Manta is not configured, so there is no backup either").
			Do("configure Manta in " + r.Instance.ConfigPath)
	case inManta:
		return warn.Because("Manta storage is configured, but those files live on this disk, and in the backup as of its last run, only").
			Do("move them one by one with AdminChangeImageStor: POST /images/UUID?action=change-stor&stor=manta (signed)")
	}
	return health.Okf("%d image files (%s) on this disk and in the backup", s.local.n, size(s.local.bytes)).Saw("%s", where)
}

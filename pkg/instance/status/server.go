package status

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/health"
)

func (r *run) httpPing(ctx context.Context) health.Result {
	p, err := r.localPing.get(ctx, r.Local.Ping)
	if err != nil {
		return health.Faultf("%s does not answer", r.Local.URL()).Saw("%v", err).
			Because("no image can be listed, downloaded or changed").
			Do("svcs -xv imgapi", "read the log that `svcs -L imgapi` names", "svcadm restart imgapi, or svcadm clear imgapi where it is in maintenance")
	}
	return pinged(r.Local.URL(), p)
}

func (r *run) httpsPing(ctx context.Context) health.Result {
	p, err := r.publicPing.get(ctx, r.Public.Ping)
	if err != nil {
		return health.Faultf("%s does not answer", r.Public.URL()).Saw("%v", err).
			Because("clients reach the image server through this address only").
			Do("svcs -xv haproxy", "read the log that `svcs -L haproxy` names", "svcadm restart haproxy")
	}
	return pinged(r.Public.URL(), p)
}

// pinged judges an answer: an instance with an agent in front answers pings in
// every state, and serves in two of them.
func pinged(url string, p Pong) health.Result {
	switch p.State {
	case "":
		return health.Okf("imgapi %s at %s", p.Version, url)
	case "active":
		return health.Okf("imgapi %s at %s, active", p.Version, url)
	}
	res := health.Warnf("imgapi %s at %s is %s", p.Version, url, p.State)
	if p.State != "readonly" {
		res = health.Faultf("imgapi %s at %s is %s", p.Version, url, p.State)
	}
	if p.Reason != "" {
		res = res.Saw("reason: %s", p.Reason)
	}
	return res.Because("in readonly writes are refused, in every other state but active everything is").
		Do("find which instance is active before this one is made so")
}

// imageList compares what the server lists with the manifests on disk. It reads
// the disk first: an image that arrives meanwhile is then listed and not on
// disk, and looked for again.
func (r *run) imageList(ctx context.Context) health.Result {
	s, err := r.scanned.get(ctx, r.scan)
	if err != nil {
		return health.Faultf("not compared with the disk").Saw("%v", err).Because("whether the server lists what is on disk is not known")
	}
	channel, query := "", ""
	if len(r.Instance.Config.Channels) > 0 {
		channel, query = "*", "?channel=*"
	}
	asked := "GET " + r.Public.URL() + "/images" + query
	listed := make(map[imageID]bool, len(s.images))
	for uuid, err := range r.Public.Images(ctx, channel) {
		if err != nil {
			return health.Faultf("the list is no list of images").Saw("%s", asked).Saw("%v", err).
				Because("clients cannot list images").
				Do("svcs -xv imgapi haproxy", "read the log that `svcs -L imgapi` names")
		}
		listed[idOf(uuid)] = true
	}
	if s.partial {
		return health.Warnf("an array of %d images; not compared with the disk", len(listed)).Saw("%s", asked).
			Saw("%d manifests were read in the time there was", len(s.images)).
			Because("whether the server lists what is on disk is not known").Do(moreTime)
	}
	missing, extra := r.compare(ctx, s, listed)
	if len(missing) == 0 && len(extra) == 0 {
		return health.Okf("an array of %d images, as on disk", len(listed)).Saw("%s", asked)
	}
	return listFinding(asked, missing, extra).Saw("%d listed, %d active on disk", len(listed), s.active)
}

func listFinding(asked string, missing, extra []string) health.Result {
	var what []string
	if len(missing) > 0 {
		what = append(what, fmt.Sprintf("%d active on disk are not listed", len(missing)))
	}
	if len(extra) > 0 {
		what = append(what, fmt.Sprintf("%d listed are not active on disk", len(extra)))
	}
	f := health.Faultf("%s", strings.Join(what, ", ")).Saw("%s", asked)
	for _, id := range head(missing) {
		f = f.Saw("on disk only: %s", id)
	}
	for _, id := range head(extra) {
		f = f.Saw("listed only: %s", id)
	}
	f = f.Because("the server reads manifests once, when it starts: what it serves and what would be backed up or served after a restart are not the same").
		Do("if the disk is right: svcadm restart imgapi")
	if len(extra) > 0 {
		f = f.Do("if manifests were lost, get them back from the backup: tritonops imgapi restore --dry-run",
			"if the server is right and there is no backup: export the images listed only before anything is restarted")
	}
	return f
}

func head(list []string) []string { return list[:min(len(list), maxEvidence)] }

// compare returns the images active on disk that are not listed, and those
// listed that are not active on disk, each in order. Manifests that cannot be
// read, or that the server leaves out, are the manifests check's. A difference
// that is gone on a second look was a change in progress.
func (r *run) compare(ctx context.Context, s *scan, listed map[imageID]bool) (missing, extra []string) {
	for id, state := range s.images {
		if state == active && !listed[id] {
			missing = append(missing, id.String())
		}
	}
	for id := range listed {
		if state := s.images[id]; state != active && state != unsure {
			extra = append(extra, id.String())
		}
	}
	slices.Sort(missing)
	slices.Sort(extra)
	return r.still(ctx, missing), r.still(ctx, extra)
}

// maxRecheck bounds the second looks; more differences than that are no change
// in progress.
const maxRecheck = 20

// still drops from ids those on which disk and server now agree.
func (r *run) still(ctx context.Context, ids []string) []string {
	if len(ids) > maxRecheck {
		return ids
	}
	return slices.DeleteFunc(ids, func(id string) bool {
		onDisk := ""
		m, err := r.Instance.ReadManifestSettled(ctx, id, settleTries, settlePause)
		switch {
		case err == nil:
			onDisk = m.Manifest.State()
		case !errors.Is(err, fs.ErrNotExist):
			return false
		}
		served, err := r.Public.ImageState(ctx, id)
		return err == nil && served == onDisk
	})
}

// imageID is a UUID in 16 bytes: with 100,000 of them that matters.
type imageID [16]byte

func idOf(uuid string) (id imageID) {
	// UUIDs come from the manifest walk or the list decoder, both of which check
	// them; a wrong one would be the zero id and show as a difference.
	_, _ = hex.Decode(id[:], []byte(strings.ReplaceAll(uuid, "-", "")))
	return id
}

// String is the UUID again.
func (id imageID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// publicHost is the host and port of the public address, false where it is not
// https.
func (r *run) publicHost() (host, port string, ok bool) {
	u, err := url.Parse(r.Public.URL())
	if err != nil || u.Scheme != "https" {
		return "", "", false
	}
	if port = u.Port(); port == "" {
		port = "443"
	}
	return u.Hostname(), port, true
}

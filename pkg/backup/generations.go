package backup

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Generation is one restorable moment, as `backup list` shows it.
type Generation struct {
	Seq        uint64    `json:"generation"`
	Time       time.Time `json:"time"`
	Kind       Kind      `json:"kind"`
	Epoch      uint64    `json:"epoch"`
	Writer     Writer    `json:"writer"`
	RestoredTo uint64    `json:"restored_to,omitempty"`
	Changed    int       `json:"changed"`
	Deleted    int       `json:"deleted"`
	State      Summary   `json:"state"`
	RecordSize int64     `json:"record_bytes"`
	Base       bool      `json:"base"`
	Good       string    `json:"good,omitempty"` // "verified" or "deep": proven restorable
	Fault      string    `json:"fault,omitempty"`
}

// Listing is what a store holds.
type Listing struct {
	Store       string       `json:"store"`
	StoreID     string       `json:"store_id,omitempty"`
	Mirror      bool         `json:"mirror_only"` // no log: a backup of the stock scripts
	Oldest      uint64       `json:"oldest"`
	Newest      uint64       `json:"newest"`
	Generations []Generation `json:"generations"` // newest first
	Readers     []Reader     `json:"readers,omitempty"`
}

// List describes the newest generations, at most limit (0: all).
func List(ctx context.Context, st store.Store, limit int) (Listing, error) {
	out := Listing{Store: st.String(), Generations: []Generation{}}
	log, err := OpenLog(ctx, st, nil)
	if err != nil {
		return out, err
	}
	if log.Empty() {
		empty, err := emptyMirror(ctx, st)
		out.Mirror = !empty
		return out, err
	}
	out.StoreID, out.Newest = log.StoreID(), log.HeadSeq()
	var infos []store.Info
	for info, err := range log.Records(ctx) {
		if err != nil {
			return out, err
		}
		infos = append(infos, info)
	}
	if len(infos) == 0 {
		return out, fmt.Errorf("%s: its records went away while they were listed", st)
	}
	out.Oldest, _ = seqOf(infos[0].Key)
	if limit > 0 && len(infos) > limit {
		infos = infos[len(infos)-limit:]
	}
	if err := out.describe(ctx, log, infos); err != nil {
		return out, err
	}
	now, err := st.Now(ctx)
	if err != nil {
		return out, err
	}
	out.Readers, err = Readers(ctx, st, now)
	return out, err
}

func (out *Listing) describe(ctx context.Context, log *Log, infos []store.Info) error {
	bases, err := log.bases(ctx)
	if err != nil {
		return err
	}
	has := map[uint64]bool{}
	for _, b := range bases {
		has[b] = true
	}
	v, _, err := loadVerified(ctx, log)
	if err != nil {
		return err
	}
	out.Generations = make([]Generation, len(infos))
	alone := make([]bool, len(infos)) // needs no record before it
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, info := range infos {
		n := len(infos) - 1 - i
		at := &out.Generations[n]
		g.Go(func() error {
			seq, _ := seqOf(info.Key)
			*at = Generation{Seq: seq, RecordSize: info.Size, Base: has[seq]}
			h, t, err := log.Header(gctx, seq)
			if err != nil {
				if gctx.Err() != nil {
					return gctx.Err()
				}
				at.Fault = err.Error()
				return nil
			}
			at.Time, at.Kind, at.Epoch, at.Writer, at.RestoredTo = h.Time, h.Kind, h.Epoch, h.Writer, h.RestoredTo
			alone[n] = h.Full || has[seq]
			at.Changed, at.Deleted, at.State = t.Puts, t.Deletes, t.State
			switch seq {
			case v.Deep:
				at.Good = "deep"
			case v.Seq:
				at.Good = "verified"
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out.followDamage(alone)
	return nil
}

// followDamage names the generations that are reached only through a damaged
// record.
func (out *Listing) followDamage(alone []bool) {
	var damaged uint64
	for n := len(out.Generations) - 1; n >= 0; n-- {
		switch g := &out.Generations[n]; {
		case g.Fault != "":
			damaged = g.Seq
		case alone[n]:
			damaged = 0
		case damaged > 0:
			g.Fault = fmt.Sprintf("needs record %d, which is damaged", damaged)
		}
	}
}

// Label is how a generation is written for people and completion.
func (g Generation) Label() string {
	return fmt.Sprintf("%s, %d manifests, %d files", g.Time.UTC().Format(time.RFC3339), g.State.Manifests, g.State.Files)
}

package backup

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/instance"
)

// verifyIfDue compares, once a day, what the store lists with what the log says:
// old scripts and people change the mirror behind it. What this disk still has
// is sent again, the rest is named as lost.
func (r *Runner) verifyIfDue(ctx context.Context, log *Log, mirror *mirrorSync, pos Position, rep *Report) error {
	if pos.Seq == 0 {
		return nil
	}
	v, info, err := loadVerified(ctx, r.Store, log.StoreID())
	if err != nil {
		return err
	}
	if !r.Verify && v.Seq > 0 {
		now, err := r.Store.Now(ctx)
		if err != nil {
			return err
		}
		if age := now.Sub(info.MTime); age >= 0 && age < VerifyEvery {
			return nil
		}
	}
	if _, err := mirror.reconcile(ctx, pos); err != nil {
		return err
	}
	c := &checker{st: r.Store, o: VerifyOptions{Parallel: r.Parallel, Progress: r.Progress}}
	if err := c.objects(ctx, pos.State); err != nil {
		return err
	}
	for _, f := range c.faults {
		if err := r.resend(ctx, pos, mirror, f, rep); err != nil {
			return err
		}
	}
	rep.Verified, rep.Resent = true, mirror.sent
	if len(rep.Faults) > 0 && hasCode(rep.Faults, "object_lost") {
		return nil
	}
	return markVerified(ctx, r.Store, log.StoreID(), pos.Seq, false, r.Now())
}

func hasCode(faults []Fault, code string) bool {
	for _, f := range faults {
		if f.Code == code {
			return true
		}
	}
	return false
}

// resend puts a lost object back if the disk has the very content.
func (r *Runner) resend(ctx context.Context, pos Position, mirror *mirrorSync, f Fault, rep *Report) error {
	want, _ := pos.State.Get(f.Path)
	e, _, err := hashFile(ctx, r.Instance, f.Path, func(int64) {})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || !e.Same(want) {
		f.Text += fmt.Sprintf("; generations up to %d that name it cannot be restored whole", pos.Seq)
		f.Fix = "tritonops imgapi restore --from file:///COPY --image " + want.UUID() + "   # from a copy of the backup, if there is one"
		rep.Faults = append(rep.Faults, f)
		return nil
	}
	there, err := r.Store.Head(ctx, mirrorPath(f.Path))
	if err == nil {
		if err := preserve(ctx, r.Store, mirrorPath(f.Path), there); err != nil {
			return err
		}
	}
	src := store.File{Path: filepath.Join(r.Instance.DataDir(), filepath.FromSlash(f.Path)), Length: e.Size}
	info, err := r.Store.Put(ctx, mirrorPath(f.Path), src, store.Condition{})
	if err != nil {
		return err
	}
	if info.MD5 != want.MD5 {
		return fmt.Errorf("%s: %w", f.Path, instance.ErrChanging)
	}
	mirror.sent++
	r.Progress.Note(f.Path + ": was missing from the store, sent again")
	return nil
}

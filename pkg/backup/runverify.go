package backup

import (
	"context"
	"errors"
	"fmt"

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
	v, info, err := loadVerified(ctx, log)
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
	if rep.Resent, err = mirror.reconcile(ctx, pos); err != nil {
		return err
	}
	c := &checker{st: r.Store, o: VerifyOptions{Parallel: r.Parallel, Progress: r.Progress}}
	if err := c.objects(ctx, pos.State); err != nil {
		return err
	}
	for _, f := range c.faults {
		if err := r.resend(ctx, pos, f, rep); err != nil {
			return err
		}
	}
	rep.Verified = true
	// The state so far may be this disk's memory: it is good only if the store gives it.
	if _, err := log.StateAt(ctx, pos.Seq, nil); damage(err) {
		rep.Faults = append(rep.Faults, Fault{
			Code: "log_damaged", Text: err.Error(), Fix: "tritonops imgapi backup run --full   # a record that needs nothing before it",
		})
		return nil
	} else if err != nil {
		return err
	}
	if hasCode(rep.Faults, "object_lost") {
		return nil
	}
	return markVerified(ctx, log, pos.Seq, false, r.Now())
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
func (r *Runner) resend(ctx context.Context, pos Position, f Fault, rep *Report) error {
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
	key := mirrorPath(f.Path)
	there, err := r.Store.Head(ctx, key)
	cond := store.IfAbsent()
	switch {
	case err == nil:
		cond = store.IfMatch(there.ETag)
		err := preserve(ctx, r.Store, key, there)
		if errors.Is(err, errUnreadable) {
			rep.Faults = append(rep.Faults, Fault{Code: f.Code, Path: f.Path, Text: f.Text + "; at its place: " + err.Error(), Fix: f.Fix})
			return nil
		}
		if err != nil {
			return err
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	src, err := watch(r.Instance, f.Path, func(int64) {})
	if err != nil {
		return err
	}
	info, err := r.Store.Put(ctx, key, src, cond)
	if err != nil {
		return err
	}
	if info.MD5 != want.MD5 {
		return fmt.Errorf("%s: %w", f.Path, instance.ErrChanging)
	}
	rep.Resent++
	r.Progress.Note(f.Path + ": was missing from the store, sent again")
	return nil
}

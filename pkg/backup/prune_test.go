package backup

import (
	"context"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/fail"
)

// grow makes n generations, each of which replaces the file of one image.
func (w *world) grow(n int) {
	w.t.Helper()
	for i := range n {
		w.image(i%4, time.Now().String())
		w.clean()
	}
}

func (w *world) prune(o PruneOptions) Pruned {
	w.t.Helper()
	o.StateDir = w.stateDir()
	p, err := Prune(context.Background(), w.st, o)
	w.must(err)
	return p
}

func TestPruneTakesOnlyWhatNoKeptGenerationNames(t *testing.T) {
	w := newWorld(t, 4)
	w.grow(3*baseEvery + 2)
	ctx := context.Background()
	if _, err := Prune(ctx, w.st, PruneOptions{Keep: Keep{Last: 1}, StateDir: w.stateDir()}); err != nil {
		t.Fatal(err) // the first run verified the mirror: there is a good generation
	}
	if _, err := Prune(ctx, w.st, PruneOptions{StateDir: w.stateDir()}); fail.CodeOf(err) != fail.Usage {
		t.Errorf("without a rule: %v", err)
	}
	// Only generation 1 has been proven: nothing may go.
	log, err := OpenLog(ctx, w.st, nil)
	w.must(err)
	v, _, err := loadVerified(ctx, log)
	w.must(err)
	if v.Seq != 1 {
		t.Fatalf("verified: %+v", v)
	}
	head := log.HeadSeq()
	_, err = Verify(ctx, w.st, VerifyOptions{})
	w.must(err)

	dry := w.prune(PruneOptions{Keep: Keep{Last: 3}, Grace: time.Nanosecond, DryRun: true})
	if dry.Records == 0 || len(dry.Deleted) == 0 {
		t.Fatalf("dry run: %+v", dry)
	}
	if again, _ := OpenLog(ctx, w.st, nil); again.HeadSeq() != head {
		t.Fatal("a dry run changed the log")
	}
	first := w.prune(PruneOptions{Keep: Keep{Last: 3}, Grace: time.Nanosecond})
	if first.Records != dry.Records || first.Bases != 2 || first.Objects != 0 || first.NewlyMarked == 0 {
		t.Fatalf("first prune deletes no object, it marks: %+v (dry %+v)", first, dry)
	}
	second := w.prune(PruneOptions{Keep: Keep{Last: 3}, Grace: time.Nanosecond})
	if second.Objects != first.NewlyMarked || second.Condemned != 0 {
		t.Fatalf("second prune: %+v after %+v", second, first)
	}
	for g := second.OldestKept; g <= head; g++ {
		v, err := Verify(ctx, w.st, VerifyOptions{Seq: g, Deep: true})
		if err != nil || len(v.Faults) > 0 {
			t.Fatalf("generation %d of %d..%d: %v %+v", g, second.OldestKept, head, err, v.Faults)
		}
	}
	if third := w.prune(PruneOptions{Keep: Keep{Last: 3}, Grace: time.Nanosecond}); third.Records+third.Bases+third.Objects+third.Condemned != 0 {
		t.Fatalf("a third prune finds work: %+v", third)
	}
	w.image(9, "goes on")
	w.clean()
}

func TestPruneWaitsOutTheGrace(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	ctx := context.Background()
	orphan := mirrorPath("images/" + uuidOf(50)[:3] + "/" + uuidOf(50) + "/file0")
	_, err := w.st.Put(ctx, orphan, store.Bytes("sent, its record not yet written"), store.Condition{})
	w.must(err)
	for range 3 {
		if p := w.prune(PruneOptions{Keep: Keep{Last: 1}}); p.Objects != 0 || p.Condemned != 1 {
			t.Fatalf("%+v", p)
		}
	}
	if _, err := w.st.Head(ctx, orphan); err != nil {
		t.Fatal(err)
	}
	// Taken into use meanwhile: sent again, although the bytes are there.
	w.image(50, "sent, its record not yet written")
	if rep := w.clean(); rep.Uploaded == 0 {
		t.Errorf("a condemned object was taken over without being sent again: %+v", rep)
	}
	if p := w.prune(PruneOptions{Keep: Keep{Last: 1}, Grace: time.Nanosecond}); p.Objects != 0 || p.Condemned != 0 {
		t.Fatalf("%+v", p)
	}
}

func TestARunningRestoreHoldsPruneBack(t *testing.T) {
	w := newWorld(t, 4)
	w.grow(2*baseEvery + 2)
	ctx := context.Background()
	_, err := Verify(ctx, w.st, VerifyOptions{})
	w.must(err)
	w.must(MarkReader(ctx, w.st, Reader{ID: "r1", Seq: 2, Who: "restore on images1", Time: time.Now()}))
	if p := w.prune(PruneOptions{Keep: Keep{Last: 1}, Grace: time.Nanosecond}); p.Records != 0 || p.OldestKept != 1 || p.HeldBy == "" {
		t.Fatalf("%+v", p)
	}
	w.must(UnmarkReader(ctx, w.st, "r1"))
	if p := w.prune(PruneOptions{Keep: Keep{Last: 1}, Grace: time.Nanosecond}); p.Records == 0 {
		t.Fatalf("%+v", p)
	}
}

func TestKeepWithinCountsWhatWasCurrentThen(t *testing.T) {
	w := newWorld(t, 1)
	w.clean()
	p := w.prune(PruneOptions{Keep: Keep{Within: time.Hour}})
	if p.OldestKept != 1 {
		t.Fatalf("%+v", p)
	}
}

func TestACopyRestoresLikeTheOriginal(t *testing.T) {
	w := newWorld(t, 5)
	w.grow(baseEvery + 5)
	w.remove(2)
	w.clean()
	to, err := filestore.New(tempDir(t), filestore.Options{NoSync: true})
	w.must(err)
	ctx := context.Background()
	dry, err := Copy(ctx, w.st, to, CopyOptions{DryRun: true})
	w.must(err)
	if l, err := OpenLog(ctx, to, nil); err != nil || !l.Empty() {
		t.Fatalf("a dry run wrote: %v", err)
	}
	got, err := Copy(ctx, w.st, to, CopyOptions{})
	w.must(err)
	if got.Records != dry.Records || got.Objects != dry.Objects || got.Records != int(got.Newest) {
		t.Errorf("%+v, dry %+v", got, dry)
	}
	if again, err := Copy(ctx, w.st, to, CopyOptions{}); err != nil || again.Records+again.Objects+again.Bases != 0 {
		t.Errorf("a second copy: %v %+v", err, again)
	}
	c := newWorldOn(t, to, "offsite", 0)
	for g := uint64(1); g <= got.Newest; g += 9 {
		v, err := Verify(ctx, to, VerifyOptions{Seq: g, Deep: true})
		if err != nil || len(v.Faults) > 0 {
			t.Errorf("generation %d of the copy: %v %+v", g, err, v.Faults)
		}
	}
	c.restore(RestoreParams{ID: "c1"}, 0, time.Time{})
	sameTree(t, c.tree(), w.tree())
	// A store of another instance is not overwritten.
	other := newWorld(t, 1)
	other.clean()
	if _, err := Copy(ctx, w.st, other.st, CopyOptions{}); fail.CodeOf(err) != fail.Refused {
		t.Errorf("copy over another backup: %v", err)
	}
	// Going on here and copying again brings the rest.
	w.image(6, "six")
	w.clean()
	if more, err := Copy(ctx, w.st, to, CopyOptions{}); err != nil || more.Records != 1 || more.Objects != 1 {
		t.Errorf("%v %+v", err, more)
	}
}

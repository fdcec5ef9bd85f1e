package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// anywhere says whether a file with this content is below dir.
func anywhere(t *testing.T, dir, content string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		found = found || string(b) == content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (w *world) undo(p RestoreParams) {
	w.t.Helper()
	runs, err := w.engine().List()
	w.must(err)
	_, err = w.engine().Undo(context.Background(), runs[0].ID, func(context.Context, json.RawMessage) (procedure.Plan, error) { return w.restorer(p).Plan() }, yes{})
	w.must(err)
}

func TestUndoKeepsWhatTheServerWroteSinceTheRestore(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	w.remove(2)
	want := w.tree()
	p := RestoreParams{ID: "r1"}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	w.must(w.start(w.restorer(p)))
	w.image(9, "written after the restore")
	w.undo(p)
	sameTree(t, w.tree(), want)
	if !anywhere(t, w.stateDir(), "written after the restore") {
		t.Error("an image that came after the restore was deleted by its undo")
	}
}

func TestACrashBesideTheRecordDoesNotStopLaterRuns(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	w.image(5, "five")
	w.clean()
	r := w.restorer(RestoreParams{ID: "r1", Generation: 1})
	_, err := r.Plan()
	w.must(err)
	pos, err := w.log().StateAt(context.Background(), 1, nil)
	w.must(err)
	if _, _, err := r.stagedContent(context.Background(), w.log(), pos); err != nil { // and killed here
		t.Fatal(err)
	}
	w.clean()
}

func TestAMirrorWithoutTheImageLeavesTheLiveOneAlone(t *testing.T) {
	w := newWorld(t, 3)
	for p, b := range w.tree() {
		if !strings.Contains(p, uuidOf(2)) {
			w.put(mirrorPath(p), b)
		}
	}
	want := w.tree()
	p := RestoreParams{ID: "r1", Image: uuidOf(2)}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	if err := w.start(w.restorer(p)); err == nil {
		t.Error("an image that the backup does not have was restored")
	}
	sameTree(t, w.tree(), want)
}

func TestKeysAreNotTakenAwayByABackupThatHasNone(t *testing.T) {
	w := newWorld(t, 1)
	for p, b := range w.tree() {
		w.put(mirrorPath(p), b)
	}
	p := RestoreParams{ID: "r1", WithKeys: true}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	if _, err := w.restorer(p).Plan(); fail.CodeOf(err) != fail.Refused {
		t.Errorf("err = %v", err)
	}
}

func TestStagingHoldsNothingOfAnEarlierAttempt(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	want := w.tree()
	w.wipe()
	p := RestoreParams{ID: "r1"}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	r := w.restorer(p)
	for _, rel := range []string{filePath(8), filePath(1) + durable.TempPrefix} {
		f := filepath.Join(r.stage(), rel)
		w.must(os.MkdirAll(filepath.Dir(f), 0o755))
		w.must(os.WriteFile(f, []byte("left over"), 0o644))
	}
	w.must(w.start(r))
	sameTree(t, w.tree(), want)
}

func TestALinkPutInTheWayAfterThePreflightIsNotFollowed(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	u := uuidOf(1)
	w.remove(1)
	away := tempDir(t)
	p := RestoreParams{ID: "r1", Image: u}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	r := w.restorer(p)
	r.Store = storetest.Faulty(w.st, func(op storetest.Op) storetest.Fault {
		if op.Kind == storetest.Get && op.Key == mirrorPath(filePath(1)) {
			shard := w.path("images/" + u[:3])
			w.must(os.RemoveAll(shard))
			w.must(os.Symlink(away, shard))
		}
		return storetest.Fault{}
	})
	if err := w.start(r); err == nil {
		t.Error("restored through a symbolic link")
	}
	if es, _ := os.ReadDir(away); len(es) > 0 {
		t.Errorf("written outside the target: %v", es)
	}
}

func TestARestoreIntoADirectoryMakesItsParents(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	p := RestoreParams{ID: "r1", Into: filepath.Join(w.root, "a", "b", "c")}
	w.restore(p, 0, time.Time{})
	sameTree(t, treeOf(t, p.Into), w.tree())
}

func TestARestoredCopyThatPartedIsNotTakenForThisLog(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	w.image(7, "seven")
	w.clean()
	ctx := context.Background()
	to := newStore(t)
	if _, err := Copy(ctx, w.st, to, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	origin := w.st
	b := newWorldOn(t, to, "images1", 0)
	b.restore(RestoreParams{ID: "r1"}, 1, time.Time{}) // record 3 of the copy
	w.image(8, "eight")
	w.clean() // record 3 of the original
	b.st = origin
	if _, err := b.runner().Run(ctx); fail.CodeOf(err) != fail.Held {
		t.Errorf("another instance's record 3 was continued: %v", err)
	}
}

func TestACopyHoldsNoGenerationWithoutItsFiles(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	ctx := context.Background()
	to := newStore(t)
	grown := false
	from := storetest.Faulty(w.st, func(op storetest.Op) storetest.Fault {
		if op.Kind == storetest.Head && op.Key == formatKey && !grown {
			grown = true
			w.image(5, "a run beside the copy")
			w.clean()
		}
		return storetest.Fault{}
	})
	if _, err := Copy(ctx, from, to, CopyOptions{}); err != nil || !grown {
		t.Fatal(err, grown)
	}
	v, err := Verify(ctx, to, VerifyOptions{Deep: true})
	if err != nil || len(v.Faults) > 0 {
		t.Errorf("%v %+v", err, v)
	}
}

func TestPruneProvesWhatItKeepsBeforeItDeletes(t *testing.T) {
	w := newWorld(t, 4)
	w.grow(2*baseEvery + 4)
	ctx := context.Background()
	_, err := Verify(ctx, w.st, VerifyOptions{})
	w.must(err)
	bases, err := w.log().bases(ctx)
	w.must(err)
	if len(bases) != 3 {
		t.Fatalf("bases %v", bases)
	}
	for _, b := range bases[1:] {
		w.put(baseKey(b), "garbage")
	}
	want := w.tree()
	if p := w.prune(PruneOptions{Keep: Keep{Last: 2}}); p.OldestKept != 1 {
		t.Errorf("%+v", p)
	}
	sameTree(t, w.restoreInto(w.log().HeadSeq()), want)
}

func TestARestoreGoesBackBehindDamage(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	want := w.tree()
	for i := range 2 {
		w.image(5+i, "five")
		w.clean()
	}
	w.put(recordKey(3), "garbage")
	w.restore(RestoreParams{ID: "r1"}, 1, time.Time{})
	sameTree(t, w.tree(), want)
	w.image(8, "eight")
	if rep := w.clean(); rep.Generation != 5 {
		t.Errorf("%+v", rep)
	}
	w.whole()
	l, err := List(context.Background(), w.st, 0)
	w.must(err)
	for _, g := range l.Generations {
		if (g.Fault != "") != (g.Seq == 3) {
			t.Errorf("generation %d: fault %q", g.Seq, g.Fault)
		}
	}
}

func TestAListNamesWhatIsReachedThroughDamageOnly(t *testing.T) {
	w := newWorld(t, 1)
	for i := range 4 {
		w.image(5, fmt.Sprint(i))
		w.clean()
	}
	w.put(recordKey(3), "garbage")
	l, err := List(context.Background(), w.st, 0)
	w.must(err)
	for _, g := range l.Generations {
		if (g.Fault != "") != (g.Seq >= 3) {
			t.Errorf("generation %d: fault %q", g.Seq, g.Fault)
		}
	}
}

func TestARestoredImageWithoutItsOriginIsAFault(t *testing.T) {
	w := newWorld(t, 2)
	m := "manifests/" + uuidOf(1) + ".raw"
	w.write(m, []byte(strings.Replace(w.tree()[m], `"os":`, `"origin": "`+uuidOf(0)+`", "os":`, 1)))
	w.clean()
	for _, missing := range []bool{false, true} {
		if missing {
			w.remove(0)
		}
		p := RestoreParams{ID: fmt.Sprint(missing), Image: uuidOf(1)}
		w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
		r := w.restorer(p)
		_, err := r.Plan()
		w.must(err)
		got, err := r.download(context.Background())
		if err != nil || hasFault(got.Faults, "origin_missing", uuidOf(0)) != missing {
			t.Errorf("missing %v: %v %+v", missing, err, got.Faults)
		}
	}
}

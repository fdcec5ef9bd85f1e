package backup

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// restoreInto brings a generation into a fresh directory and returns what it
// holds.
func (w *world) restoreInto(gen uint64) map[string]string {
	w.t.Helper()
	dir := filepath.Join(tempDir(w.t), "into")
	r := w.restorer(RestoreParams{ID: "t", Generation: gen, Into: dir})
	r.StateDir = filepath.Join(filepath.Dir(dir), "state")
	w.must(w.start(r))
	return treeOf(w.t, dir)
}

func (w *world) restorer(p RestoreParams) *Restorer {
	p.Source = w.st.String()
	return &Restorer{
		Store: w.st, Instance: w.inst, StateDir: w.stateDir(), Params: p,
		Writer: Writer{Instance: w.name, Alias: w.name, Tool: "tritonops test"},
	}
}

type yes struct{}

func (yes) Ask(context.Context, procedure.Question) (bool, error) { return true, nil }

func (w *world) engine() *procedure.Engine {
	return &procedure.Engine{Dir: filepath.Join(w.root, "data", "tritonops", "runs"), Version: "test"}
}

func (w *world) start(r *Restorer) error {
	w.t.Helper()
	plan, err := r.Plan()
	w.must(err)
	ok, err := procedure.Confirm(context.Background(), plan, yes{})
	w.must(err)
	_, err = w.engine().Start(context.Background(), plan, ok)
	return err
}

func (w *world) restore(p RestoreParams, seq uint64, at time.Time) {
	w.t.Helper()
	w.must(p.Resolve(context.Background(), w.st, seq, at))
	w.must(w.start(w.restorer(p)))
}

func TestALostDiskComesBackByteForByte(t *testing.T) {
	w := newWorld(t, 12)
	w.clean()
	w.image(3, "another content")
	w.remove(5)
	w.clean()
	want := w.tree()
	w.wipe()
	w.restore(RestoreParams{ID: "r1"}, 0, time.Time{})
	sameTree(t, w.tree(), want)
	if _, ok, err := w.inst.RestoredAt(); err != nil || !ok {
		t.Errorf("no restored marker: %v", err)
	}
	if rep := w.clean(); rep.Published {
		t.Errorf("a run after a restore found changes: %+v", rep)
	}
	if _, err := os.Stat(restoringPath(w.stateDir())); !errors.Is(err, os.ErrNotExist) {
		t.Error("backup runs are still held")
	}
	if rs, err := Readers(context.Background(), w.st, time.Now()); err != nil || len(rs) != 0 {
		t.Errorf("reader marks left: %v %v", rs, err)
	}
}

func TestARestoreToAMomentIsANewTimeline(t *testing.T) {
	w := newWorld(t, 4)
	w.clean()
	before := w.tree()
	w.manifest(2, "content of image 2", "edited")
	edit := w.clean()
	after := w.tree()
	w.restore(RestoreParams{ID: "r1"}, 1, time.Time{})
	sameTree(t, w.tree(), before)
	rep := w.clean()
	if rep.Generation != 3 || rep.Published {
		t.Fatalf("the run after it must measure against the record of the restore: %+v", rep)
	}
	// The later moment is still there.
	w.restore(RestoreParams{ID: "r2"}, 0, edit.Time)
	sameTree(t, w.tree(), after)
	log, err := OpenLog(context.Background(), w.st, nil)
	w.must(err)
	h, _, err := log.Header(context.Background(), 4)
	if err != nil || h.Kind != KindRestored || h.RestoredTo != 2 {
		t.Errorf("record 4: %+v %v", h, err)
	}
	if _, err := w.st.Head(context.Background(), recordKey(5)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one record too many: %v", err)
	}
}

func TestARestoreKeepsAsideWhatItReplacesAndLinksWhatIsThere(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	u := w.image(8, "only here")
	run := RestoreParams{ID: "r1", OnlyHere: 1}
	w.restore(run, 1, time.Time{})
	aside := treeOf(t, filepath.Join(w.stateDir(), "restore", "r1", "replaced"))
	if aside["manifests/"+u+".raw"] == "" || aside["images/"+u[:3]+"/"+u+"/file0"] != "only here" {
		t.Errorf("not kept aside: %v", aside)
	}
}

func TestOneImageIsRestoredAndTheRestLeftAlone(t *testing.T) {
	w := newWorld(t, 4)
	w.clean()
	want := w.tree()
	w.remove(2)
	w.manifest(1, "content of image 1", "edited since")
	changed := w.tree()["manifests/"+uuidOf(1)+".raw"]
	w.restore(RestoreParams{ID: "r1", Image: uuidOf(2)}, 0, time.Time{})
	want["manifests/"+uuidOf(1)+".raw"] = changed
	sameTree(t, w.tree(), want)
}

func TestAFirstRestoreFromAnEmptyStoreOnlyMarks(t *testing.T) {
	w := newWorld(t, 3)
	want := w.tree()
	var p RestoreParams
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	if !p.Empty {
		t.Fatalf("%+v", p)
	}
	w.must(w.start(w.restorer(p)))
	sameTree(t, w.tree(), want)
	if _, ok, _ := w.inst.RestoredAt(); !ok {
		t.Error("not marked")
	}
}

func TestABackupOfTheStockScriptsIsRestoredFromItsListing(t *testing.T) {
	w := newWorld(t, 5)
	want := w.tree()
	for p, b := range want {
		_, err := w.st.Put(context.Background(), mirrorPath(p), store.Bytes(b), store.Condition{})
		w.must(err)
	}
	_, err := w.st.Put(context.Background(), mirrorPath("images/README"), store.Bytes("hi"), store.Condition{})
	w.must(err)
	w.wipe()
	w.restore(RestoreParams{ID: "r1"}, 0, time.Time{})
	sameTree(t, w.tree(), want)
	// And the first run adopts the mirror instead of sending it again.
	rep := w.clean()
	if rep.Uploaded != 0 || rep.State.Files != 5 {
		t.Errorf("%+v", rep)
	}
}

func TestALostObjectStopsARestoreBeforeAnythingChanges(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	u := uuidOf(1)
	w.must(w.st.Delete(context.Background(), mirrorPath("images/"+u[:3]+"/"+u+"/file0"), store.Condition{}))
	want := w.tree()
	w.wipe()
	p := RestoreParams{ID: "r1"}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	err := w.start(w.restorer(p))
	if err == nil || !strings.Contains(err.Error(), u) {
		t.Fatalf("err = %v", err)
	}
	if len(w.tree()) != 0 {
		t.Error("something was put in place")
	}
	if _, err := w.runner().Run(context.Background()); fail.CodeOf(err) != fail.Refused {
		t.Errorf("a backup run in the middle of a restore: %v", err)
	}
	runs, err := w.engine().List()
	w.must(err)
	_, err = w.engine().Undo(context.Background(), runs[0].ID, func(context.Context, json.RawMessage) (procedure.Plan, error) { return w.restorer(p).Plan() }, yes{})
	w.must(err)
	p = RestoreParams{ID: "r2", SkipLost: true}
	w.restore(p, 0, time.Time{})
	delete(want, "images/"+u[:3]+"/"+u+"/file0")
	sameTree(t, w.tree(), want)
}

func TestARestoreRefusesLinksAndFullDirectories(t *testing.T) {
	w := newWorld(t, 1)
	w.clean()
	w.must(os.Rename(w.path("images"), w.path("elsewhere")))
	w.must(os.Symlink(w.path("elsewhere"), w.path("images")))
	p := RestoreParams{ID: "r1"}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	if err := w.start(w.restorer(p)); fail.CodeOf(err) != fail.Refused || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("err = %v", err)
	}
	p.Into = w.root
	if err := w.start(w.restorer(p)); fail.CodeOf(err) != fail.Refused || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("err = %v", err)
	}
}

func TestUndoBringsTheFormerTreeBack(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	w.image(7, "newer than the backup")
	want := w.tree()
	p := RestoreParams{ID: "r1"}
	w.must(p.Resolve(context.Background(), w.st, 0, time.Time{}))
	r := w.restorer(p)
	plan, err := r.Plan()
	w.must(err)
	ok, err := procedure.Confirm(context.Background(), plan, yes{})
	w.must(err)
	e := w.engine()
	boom := errors.New("power is going")
	e.Inject = func(pt procedure.Point, step string) error {
		if step == "mark restored" {
			return boom
		}
		return nil
	}
	res, err := e.Start(context.Background(), plan, ok)
	if !errors.Is(err, boom) {
		t.Fatalf("%v %+v", err, res)
	}
	if len(w.tree()) == len(want) {
		t.Fatal("nothing was swapped, the test proves nothing")
	}
	e.Inject = nil
	runs, err := e.List()
	w.must(err)
	if _, err := e.Undo(context.Background(), runs[0].ID, func(context.Context, json.RawMessage) (procedure.Plan, error) { return w.restorer(p).Plan() }, yes{}); err != nil {
		t.Fatal(err)
	}
	sameTree(t, w.tree(), want)
}

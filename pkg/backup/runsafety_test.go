package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
	"github.com/tritonops/tritonops/pkg/fail"
)

func newStore(t *testing.T) store.Store {
	t.Helper()
	st, err := filestore.New(tempDir(t), filestore.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (w *world) log() *Log {
	w.t.Helper()
	l, err := OpenLog(context.Background(), w.st, nil)
	w.must(err)
	return l
}

// whole fails unless the newest generation is restorable from the store alone.
func (w *world) whole() {
	w.t.Helper()
	v, err := Verify(context.Background(), w.st, VerifyOptions{Deep: true})
	w.must(err)
	for _, f := range v.Faults {
		w.t.Errorf("generation %d: %+v", v.Generation, f)
	}
}

func (w *world) put(key, content string) {
	w.t.Helper()
	_, err := w.st.Put(context.Background(), key, store.Bytes(content), store.Condition{})
	w.must(err)
}

func filePath(i int) string {
	u := uuidOf(i)
	return "images/" + u[:3] + "/" + u + "/file0"
}

func TestAFileThatAnotherStoreHasIsSentToThisOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	first, second := w.st, newStore(t)
	w.clean()
	w.st = second
	w.clean()
	w.image(5, "five")
	w.st = first
	w.clean()
	time.Sleep(settle + 100*time.Millisecond) // from here on the cache is trusted
	w.clean()
	w.st = second // verified a moment ago: no daily verify puts things right
	w.clean()
	w.whole()
}

func TestAnUnreadableKeyFileIsNotADeletion(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	p := w.path("etc/authkeys/local/alice.keys")
	w.must(os.Remove(p))
	w.must(os.Mkdir(p, 0o755))
	rep := w.run()
	if rep.Deleted != 0 || rep.Published || !hasFault(rep.Faults, "authkeys_unreadable", "alice.keys") {
		t.Fatalf("%+v", rep)
	}
	// A torn manifest beside it, and still a full record and a base can be written.
	torn := "manifests/" + uuidOf(1) + ".raw"
	good := w.tree()[torn]
	w.write(torn, []byte(good[:50]))
	r := w.runner()
	r.Full = true
	rep, err := r.Run(context.Background())
	if err != nil || !rep.Published || !rep.BaseWritten {
		t.Fatalf("%v %+v", err, rep)
	}
	if got := w.restoreInto(rep.Generation); got[torn] != good {
		t.Errorf("the torn manifest's last good version is not in the full record: %q", clip(got[torn]))
	}
	w.whole()
}

func TestAFileDeletedWhileItIsSentTakesItsManifestAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.clean()
	w.image(5, "five")
	r := w.runner()
	r.Store = storetest.Faulty(w.st, func(op storetest.Op) storetest.Fault {
		if op.Key == mirrorPath(filePath(5)) {
			w.remove(5)
		}
		return storetest.Fault{}
	})
	rep, err := r.Run(context.Background())
	if err != nil || rep.State.Manifests != 2 || rep.State.Files != 2 || len(rep.Faults) > 0 {
		t.Fatalf("a manifest without its file was published: %v %+v", err, rep)
	}
	// The same with a manifest that is not read because it did not change.
	w.image(5, "five")
	time.Sleep(settle + 100*time.Millisecond)
	w.clean()
	w.write(filePath(5), []byte("five"))
	if rep, err := r.Run(context.Background()); err != nil || rep.State.Manifests != 2 || rep.State.Files != 2 || rep.Deleted != 2 {
		t.Fatalf("%v %+v", err, rep)
	}
}

func TestAFaultIsNamedByEveryRunUntilItIsPutRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.image(5, "five")
	w.must(os.Remove(w.path(filePath(5))))
	w.image(6, "six")
	w.write(filePath(6), []byte("SIX"))
	for i := range 3 {
		rep := w.run()
		if !hasFault(rep.Faults, "file_missing", uuidOf(5)) || !hasFault(rep.Faults, "file_damaged", uuidOf(6)) {
			t.Fatalf("run %d: %+v", i+1, rep.Faults)
		}
		if i == 0 {
			time.Sleep(settle + 100*time.Millisecond)
		}
	}
}

func TestAFileIsKeptWithTheManifestThatStaysTorn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.clean()
	before := w.tree()
	m := "manifests/" + uuidOf(1) + ".raw"
	w.write(filePath(1), []byte("a new file, and the crash came before its manifest"))
	w.write(m, []byte(before[m][:80]))
	w.run()
	sameTree(t, w.restoreInto(w.log().HeadSeq()), before)
}

func TestADamagedNewestRecordIsContinuedByAFullOne(t *testing.T) {
	for _, where := range []string{"with its cache", "without its cache", "with the mirror behind"} {
		w := newWorld(t, 2)
		w.clean()
		w.image(5, "five")
		w.clean()
		w.put(recordKey(2), "garbage")
		switch where {
		case "without its cache":
			w.must(os.RemoveAll(w.stateDir()))
		case "with the mirror behind":
			m := mirrorSync{st: w.st, log: w.log()}
			w.must(m.mark(context.Background(), 1))
		}
		if where != "with its cache" {
			w.image(6, "six")
			if _, err := w.runner().Run(context.Background()); err == nil || len(fail.Hints(err)) == 0 {
				t.Errorf("%s: went on behind a damaged record: %v", where, err)
			}
		}
		r := w.runner()
		r.Full = true
		rep, err := r.Run(context.Background())
		if err != nil || !rep.Published || !rep.BaseWritten {
			t.Errorf("%s: %v %+v", where, err, rep)
			continue
		}
		sameTree(t, w.restoreInto(rep.Generation), w.tree())
		w.whole()
		w.image(7, "seven")
		w.clean()
		w.whole()
	}
}

func TestADailyVerifyReadsTheLogToo(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	for i := range 2 {
		w.image(5+i, "five")
		w.clean()
	}
	w.put(recordKey(2), "garbage") // not the newest: the cache leads past it
	r := w.runner()
	r.Verify = true
	rep, err := r.Run(context.Background())
	w.must(err)
	if !hasFault(rep.Faults, "log_damaged", "") {
		t.Errorf("called good, and cannot be read: %+v", rep)
	}
	v, _, err := loadVerified(context.Background(), w.log())
	if err != nil || v.Seq != 1 {
		t.Errorf("%v %+v", err, v)
	}
}

func TestADamagedCacheIsNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	time.Sleep(settle + 100*time.Millisecond) // or nothing in it is trusted
	w.clean()
	p := cachePath(w.stateDir())
	b, err := os.ReadFile(p)
	w.must(err)
	e, _ := w.log().StateAt(context.Background(), 1, nil)
	sum := fmt.Sprintf("%x", e.State.Entries()[len(e.State.Entries())-1].MD5)
	bad := strings.Replace(string(b), sum, strings.Repeat("0", 32), 1)
	if bad == string(b) {
		t.Fatal("nothing was damaged")
	}
	w.must(os.WriteFile(p, []byte(bad), 0o600))
	w.image(5, "five")
	w.clean()
	w.whole()
}

func TestABaseOfAnotherTimelineIsPassedOver(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	ctx := context.Background()
	// A base 2 from a log that was set back: its record 2 was another one.
	stale := Position{Seq: 2, SHA256: strings.Repeat("ab", 32), Time: time.Now()}
	w.must(w.log().WriteBase(ctx, stale, nil, tempDir(t)))
	w.image(5, "five")
	w.clean()
	pos, err := w.log().StateAt(ctx, 2, nil)
	if err != nil || pos.State.Summary().Manifests != 3 {
		t.Fatalf("%v %+v", err, pos.State.Summary())
	}
}

func TestAStoreThatGoesAwayEndsTheSearchForAFullRecord(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	for i := range 4 {
		w.image(5, fmt.Sprint(i))
		w.clean()
	}
	w.must(w.st.Delete(context.Background(), baseKey(1), store.Condition{}))
	w.put(recordKey(1), "garbage")
	st := storetest.Faulty(w.st, nil)
	log, err := OpenLog(context.Background(), st, nil)
	w.must(err)
	st.SetHook(storetest.Keys(storetest.Get, func(k string) bool { return k != recordKey(1) }, storetest.Fault{Fail: store.ErrUnavailable}))
	st.Reset()
	if _, err := log.StateAt(context.Background(), 5, nil); !errors.Is(err, store.ErrUnavailable) || st.Count(storetest.Get) > 3 {
		t.Errorf("%v after %d reads", err, st.Count(storetest.Get))
	}
}

func TestADamagedRecordInTheMiddleDoesNotHideTheOthers(t *testing.T) {
	w := newWorld(t, 1)
	for i := range 9 {
		w.image(5, fmt.Sprint(i))
		w.clean()
	}
	want, _, err := w.log().Header(context.Background(), 3)
	w.must(err)
	w.put(recordKey(5), "garbage")
	w.put(recordKey(4), "garbage")
	if n, err := w.log().At(context.Background(), want.Time); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
	if n, err := w.log().At(context.Background(), time.Now()); err != nil || n != 9 {
		t.Errorf("%d %v", n, err)
	}
	if n, err := w.log().At(context.Background(), want.Time.Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("%d %v", n, err)
	}
}

func TestALostFormatFileDoesNotHideTheLog(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	w.must(w.st.Delete(context.Background(), formatKey, store.Condition{}))
	want := w.tree()
	if n := w.log().HeadSeq(); n != 1 {
		t.Fatalf("the log ends at %d", n)
	}
	sameTree(t, w.restoreInto(1), want)
	w.image(5, "five")
	if rep := w.clean(); rep.Generation != 2 || w.log().StoreID() == "" {
		t.Errorf("%+v", rep)
	}
	w.whole()
}

func TestAMissingFileOfARestoreNoteIsNotAPass(t *testing.T) {
	w := newWorld(t, 1)
	w.must(os.MkdirAll(restoringPath(w.stateDir()), 0o700)) // unreadable as a file
	if _, err := w.runner().Run(context.Background()); err == nil {
		t.Error("a run although it cannot be known whether a restore is at work")
	}
}

func TestAnObjectThatCannotBeReadBackIsNotReplaced(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	before := w.tree()
	w.image(1, "another content")
	w.image(5, "five")
	r := w.runner()
	r.Store = storetest.Faulty(w.st, storetest.Keys(storetest.Get, func(k string) bool { return k == mirrorPath(filePath(1)) }, storetest.Fault{Corrupt: true}))
	rep, err := r.Run(context.Background())
	if err != nil || !rep.Published || rep.State.Files != 3 || !hasFault(rep.Faults, "object_damaged", uuidOf(1)) {
		t.Fatalf("%v %+v", err, rep)
	}
	sameTree(t, w.restoreInto(1), before) // it was the way to the store only
	got := w.restoreInto(2)
	for p, b := range before {
		if got[p] != b {
			t.Errorf("%s: %q does not stay with what belongs to it", p, clip(got[p]))
		}
	}
	w.clean()
	sameTree(t, w.restoreInto(1), before)
	sameTree(t, w.restoreInto(3), w.tree())
}

func TestADamagedListOfTheCondemnedStopsNobody(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	w.put(condemnedKey, "{")
	w.must(os.RemoveAll(w.stateDir()))
	w.clean()
	w.prune(PruneOptions{Keep: Keep{Last: 1}})
	b, _, err := store.Read(context.Background(), w.st, condemnedKey, 1<<20)
	if err != nil || !bytes.Contains(b, []byte(`"objects"`)) {
		t.Errorf("%v %s", err, b)
	}
}

func TestAFullRecordBehindDamageIsGuardedToo(t *testing.T) {
	w := newWorld(t, 4)
	w.clean()
	w.put(recordKey(1), "garbage")
	w.put(baseKey(1), "garbage")
	for i := range 4 {
		w.remove(i)
	}
	r := w.runner()
	r.Full, r.MaxDelete = true, 0
	if _, err := r.Run(context.Background()); fail.CodeOf(err) != fail.Refused || !strings.Contains(err.Error(), "4 of 4 manifests") {
		t.Errorf("an empty disk was saved in full: %v", err)
	}
}

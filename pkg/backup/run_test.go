package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

func TestARunPublishesOnlyWhatChanged(t *testing.T) {
	w := newWorld(t, 10)
	first := w.clean()
	if !first.Published || first.Generation != 1 || first.State.Manifests != 10 || first.State.Files != 10 || !first.BaseWritten {
		t.Fatalf("first run: %+v", first)
	}
	if again := w.clean(); again.Published || again.Generation != 1 {
		t.Fatalf("second run with nothing to do: %+v", again)
	}
	// The same size, another content: what manta-sync never sends.
	u := uuidOf(3)
	b, err := os.ReadFile(w.path("manifests/" + u + ".raw"))
	w.must(err)
	w.write("manifests/"+u+".raw", []byte(strings.Replace(string(b), "1.0.0", "1.0.1", 1)))
	edit := w.clean()
	if !edit.Published || edit.Changed != 1 || edit.Deleted != 0 || edit.Generation != 2 {
		t.Fatalf("run after a same-size edit: %+v", edit)
	}
	w.remove(4)
	gone := w.clean()
	if gone.Deleted != 2 || gone.State.Manifests != 9 || gone.State.Files != 9 {
		t.Fatalf("run after a delete: %+v", gone)
	}
	got, _, err := store.Read(context.Background(), w.st, "backup/manifests/"+u+".raw", 1<<20)
	if err != nil || !strings.Contains(string(got), "1.0.1") {
		t.Errorf("the mirror has not the edit: %v %s", err, got)
	}
	if _, err := w.st.Head(context.Background(), "backup/manifests/"+uuidOf(4)+".raw"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the mirror still has a deleted manifest: %v", err)
	}
	if _, err := w.st.Head(context.Background(), mirrorPath("images/"+uuidOf(4)[:3]+"/"+uuidOf(4)+"/file0")); err != nil {
		t.Errorf("a deleted image's file must stay for earlier generations: %v", err)
	}
}

func TestARunWithNothingToDoCostsAHandfulOfRequests(t *testing.T) {
	for _, n := range []int{5, 300} {
		w := newWorld(t, n)
		w.clean()
		time.Sleep(settle + 100*time.Millisecond) // ctime cannot be set back
		w.clean()
		counted := storetest.Faulty(w.st, func(storetest.Op) storetest.Fault { return storetest.Fault{} })
		w.st = counted
		w.clean()
		if got := counted.Total(); got > 12 {
			t.Errorf("%d images: %d requests", n, got)
		}
	}
}

func TestSecretsOfTheConfigurationAreNotSaved(t *testing.T) {
	w := newWorld(t, 1)
	w.clean()
	sink := &fileSink{dir: t.TempDir(), keep: func(Entry) bool { return true }}
	log, err := OpenLog(context.Background(), w.st, nil)
	w.must(err)
	_, err = log.StateAt(context.Background(), 1, sink)
	w.must(err)
	b, err := os.ReadFile(filepath.Join(sink.dir, "etc", "imgapi.config.json"))
	w.must(err)
	if strings.Contains(string(b), "s3cret") || !strings.Contains(string(b), `"baseDir"`) {
		t.Errorf("saved configuration: %s", b)
	}
	if b, err := os.ReadFile(filepath.Join(sink.dir, "etc", "authkeys", "local", "alice.keys")); err != nil || string(b) != "ssh-rsa AAAA alice\n" {
		t.Errorf("auth keys: %v %q", err, b)
	}
}

func TestATornManifestKeepsItsLastGoodVersion(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	p := "manifests/" + uuidOf(1) + ".raw"
	good := w.tree()[p]
	w.write(p, []byte(good[:100]))
	rep := w.run()
	if !hasFault(rep.Faults, "manifest_unreadable", uuidOf(1)) || rep.Deleted != 0 || rep.State.Manifests != 3 {
		t.Fatalf("%+v", rep)
	}
	// A new one that was never whole is left out, the rest is published.
	w.write("manifests/"+uuidOf(9)+".raw", []byte(`{"v":2`))
	w.image(5, "five")
	rep = w.run()
	if !rep.Published || rep.State.Manifests != 4 || !hasFault(rep.Faults, "manifest_unreadable", uuidOf(9)) {
		t.Fatalf("%+v", rep)
	}
}

func TestAnImageFileLostFromDiskIsNotADeletion(t *testing.T) {
	w := newWorld(t, 3)
	w.clean()
	u := uuidOf(2)
	w.must(os.Remove(w.path("images/" + u[:3] + "/" + u + "/file0")))
	rep := w.run()
	if rep.Deleted != 0 || !hasFault(rep.Faults, "file_missing", u) || rep.State.Files != 3 {
		t.Fatalf("%+v", rep)
	}
}

func TestADamagedImageFileDoesNotReplaceAGoodCopy(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	u := uuidOf(1)
	rel := "images/" + u[:3] + "/" + u + "/file0"
	w.write(rel, []byte("CONTENT of image 1")) // same size, other bytes
	rep := w.run()
	if !hasFault(rep.Faults, "file_damaged", u) {
		t.Fatalf("%+v", rep)
	}
	b, _, err := store.Read(context.Background(), w.st, mirrorPath(rel), 1000)
	if err != nil || string(b) != "content of image 1" {
		t.Errorf("the good copy is gone: %q %v", b, err)
	}
}

func TestAReplacedImageFileKeepsItsOldContentInTheHistory(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	before := w.tree()
	w.image(1, "a new content for image 1")
	w.clean()
	for gen, want := range map[uint64]map[string]string{1: before, 2: w.tree()} {
		v, err := Verify(context.Background(), w.st, VerifyOptions{Seq: gen, Deep: true})
		if err != nil || len(v.Faults) > 0 {
			t.Errorf("generation %d: %v %+v", gen, err, v.Faults)
		}
		sameTree(t, w.restoreInto(gen), want)
	}
}

func TestARunThatWouldEmptyTheBackupIsRefused(t *testing.T) {
	w := newWorld(t, 20)
	w.clean()
	for i := range 3 {
		w.remove(i)
	}
	r := w.runner()
	r.MaxDelete = 0
	_, err := r.Run(context.Background())
	if fail.CodeOf(err) != fail.Refused || !strings.Contains(err.Error(), "3 of 20 manifests") {
		t.Fatalf("err = %v", err)
	}
	asked := Deletion{}
	r.AllowDelete = func(_ context.Context, d Deletion) (bool, error) { asked = d; return true, nil }
	rep, err := r.Run(context.Background())
	if err != nil || rep.Deleted != 6 || asked.Manifests != 3 || asked.OfFiles != 20 {
		t.Fatalf("%v %+v asked %+v", err, rep, asked)
	}
	// An unreadable directory is never an empty one.
	w.must(os.Rename(w.path("manifests"), w.path("manifests.away")))
	if _, err := w.runner().Run(context.Background()); err == nil {
		t.Error("a missing manifests directory was taken for an empty one")
	}
}

func TestTwoRunsAtOnceAreKeptApart(t *testing.T) {
	w := newWorld(t, 1)
	w.must(durable.MkdirAll(w.stateDir(), 0o700))
	lock, err := durable.Acquire(LockPath(w.stateDir()), "backup run")
	w.must(err)
	defer lock.Release()
	if _, err := w.runner().Run(context.Background()); fail.CodeOf(err) != fail.Held {
		t.Fatalf("err = %v", err)
	}
}

func TestAnotherInstancesLogIsNotContinued(t *testing.T) {
	a := newWorld(t, 3)
	a.clean()
	b := newWorldOn(t, a.st, "images1", 0)
	if _, err := b.runner().Run(context.Background()); fail.CodeOf(err) != fail.Held || !strings.Contains(err.Error(), "images0") {
		t.Fatalf("err = %v", err)
	}
	r := b.runner()
	r.TakeOver = true
	r.MaxDelete = 0.1
	if _, err := r.Run(context.Background()); fail.CodeOf(err) != fail.Refused {
		t.Fatalf("taking over with an empty disk: %v", err)
	}
}

func TestALowerEpochIsFenced(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	r := w.runner()
	r.Epoch = 3
	w.image(7, "seven")
	if rep, err := r.Run(context.Background()); err != nil || rep.Generation != 2 {
		t.Fatalf("%v %+v", err, rep)
	}
	w.image(8, "eight")
	if _, err := w.runner().Run(context.Background()); fail.CodeOf(err) != fail.Held || !strings.Contains(err.Error(), "epoch 3") {
		t.Fatalf("the former primary went on: %v", err)
	}
}

func TestARaceForANumberIsMeasuredAgain(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	w.image(5, "five")
	twin := &world{t: t, root: w.root, inst: w.inst, st: w.st, name: w.name}
	raced := false
	r := w.runner()
	r.Store = storetest.Faulty(w.st, func(op storetest.Op) storetest.Fault {
		if op.Kind == storetest.Put && op.Key == recordKey(2) && !raced {
			raced = true
			other := twin.runner()
			other.StateDir = t.TempDir()
			twin.image(6, "six")
			if _, err := other.Run(context.Background()); err != nil {
				t.Errorf("the other writer: %v", err)
			}
		}
		return storetest.Fault{}
	})
	rep, err := r.Run(context.Background())
	if err != nil || !raced {
		t.Fatalf("%v raced=%v", err, raced)
	}
	log, err := OpenLog(context.Background(), w.st, nil)
	w.must(err)
	pos, err := log.StateAt(context.Background(), log.HeadSeq(), nil)
	w.must(err)
	if pos.State.Summary().Manifests != 4 || rep.State.Manifests != 4 {
		t.Fatalf("%+v %+v", pos.State.Summary(), rep)
	}
}

func TestALostAnswerToTheRecordIsRecognised(t *testing.T) {
	w := newWorld(t, 2)
	lost := false
	r := w.runner()
	r.Store = storetest.Faulty(w.st, storetest.Keys(storetest.Put, func(k string) bool {
		if k != recordKey(1) || lost {
			return false
		}
		lost = true
		return true
	}, storetest.Fault{LoseAnswer: true}))
	rep, err := r.Run(context.Background())
	if err != nil || rep.Generation != 1 || !lost {
		t.Fatalf("%v %+v", err, rep)
	}
	if rep := w.clean(); rep.Published {
		t.Fatalf("published twice: %+v", rep)
	}
}

func TestAClockThatJumpsBackKeepsTheOrder(t *testing.T) {
	w := newWorld(t, 2)
	w.clean()
	w.image(5, "five")
	r := w.runner()
	r.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	_, err := r.Run(context.Background())
	w.must(err)
	log, err := OpenLog(context.Background(), w.st, nil)
	w.must(err)
	one, _, err := log.Header(context.Background(), 1)
	w.must(err)
	two, _, err := log.Header(context.Background(), 2)
	w.must(err)
	if two.Time.Before(one.Time) {
		t.Errorf("record 2 at %v is before record 1 at %v", two.Time, one.Time)
	}
	if n, err := log.At(context.Background(), time.Now()); err != nil || n != 2 {
		t.Errorf("the newest generation now is %d, %v", n, err)
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.clean()
	ctx := context.Background()
	b, _, err := store.Read(ctx, w.st, formatKey, 1<<16)
	w.must(err)
	_, err = w.st.Put(ctx, formatKey, store.Bytes(strings.Replace(string(b), `"version": 1`, `"version": 2`, 1)), store.Condition{})
	w.must(err)
	if _, err := w.runner().Run(ctx); fail.CodeOf(err) != fail.Refused || !errors.Is(err, ErrNewer) {
		t.Fatalf("err = %v", err)
	}
}

func TestAMirrorChangedBehindTheLogIsPutRight(t *testing.T) {
	w := newWorld(t, 6)
	w.clean()
	ctx := context.Background()
	w.must(w.st.Delete(ctx, mirrorPath("manifests/"+uuidOf(1)+".raw"), store.Condition{}))
	_, err := w.st.Put(ctx, mirrorPath("manifests/"+uuidOf(2)+".raw"), store.Bytes("scribble"), store.Condition{})
	w.must(err)
	u := uuidOf(3)
	w.must(w.st.Delete(ctx, mirrorPath("images/"+u[:3]+"/"+u+"/file0"), store.Condition{}))
	// An image nobody has any more.
	x := uuidOf(4)
	w.must(w.st.Delete(ctx, mirrorPath("images/"+x[:3]+"/"+x+"/file0"), store.Condition{}))
	w.must(os.Remove(w.path("images/" + x[:3] + "/" + x + "/file0")))

	v, err := Verify(ctx, w.st, VerifyOptions{})
	w.must(err)
	if !hasFault(v.Faults, "object_lost", u) || !hasFault(v.Faults, "mirror_differs", uuidOf(1)) || !hasFault(v.Faults, "mirror_differs", uuidOf(2)) {
		t.Fatalf("verify: %+v", v.Faults)
	}
	r := w.runner()
	r.Verify = true
	rep, err := r.Run(ctx)
	w.must(err)
	if !rep.Verified || rep.Resent < 2 || !hasFault(rep.Faults, "object_lost", x) || hasFault(rep.Faults, "object_lost", u) {
		t.Fatalf("%+v", rep)
	}
	v, err = Verify(ctx, w.st, VerifyOptions{})
	w.must(err)
	if len(v.Faults) != 1 || !hasFault(v.Faults, "object_lost", x) {
		t.Fatalf("after the repair: %+v", v.Faults)
	}
}

func TestADamagedNewestBaseFallsBackToTheOlderOne(t *testing.T) {
	w := newWorld(t, 3)
	for i := range baseEvery + 2 {
		w.image(100+i, "x")
		w.clean()
	}
	ctx := context.Background()
	log, err := OpenLog(ctx, w.st, nil)
	w.must(err)
	bases, err := log.bases(ctx)
	w.must(err)
	if len(bases) != 2 {
		t.Fatalf("bases: %v", bases)
	}
	for _, damage := range []string{"", "garbage"} {
		_, err = w.st.Put(ctx, baseKey(bases[1]), store.Bytes(damage), store.Condition{})
		w.must(err)
		var notes []string
		log, err = OpenLog(ctx, w.st, func(s string) { notes = append(notes, s) })
		w.must(err)
		pos, err := log.StateAt(ctx, log.HeadSeq(), nil)
		if err != nil || pos.State.Summary().Manifests != 3+baseEvery+2 || len(notes) != 1 {
			t.Fatalf("%v %+v notes %q", err, pos.State.Summary(), notes)
		}
	}
	// Both bases and a record between gone: refused with the way out, which works.
	_, err = w.st.Put(ctx, baseKey(bases[0]), store.Bytes("garbage"), store.Condition{})
	w.must(err)
	_, err = w.st.Put(ctx, recordKey(5), store.Bytes("garbage"), store.Condition{})
	w.must(err)
	w.must(os.RemoveAll(w.stateDir()))
	_, err = w.runner().Run(ctx)
	if err == nil || !errors.Is(err, ErrDamaged) || len(fail.Hints(err)) == 0 {
		t.Fatalf("err = %v", err)
	}
	r := w.runner()
	r.Full = true
	rep, err := r.Run(ctx)
	w.must(err)
	sameTree(t, w.restoreInto(rep.Generation), w.tree())
}

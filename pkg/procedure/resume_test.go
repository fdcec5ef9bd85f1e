package procedure

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

// stopAtB starts a, b, c and leaves the run midway at b.
func stopAtB(t *testing.T) (*files, *Engine, string) {
	t.Helper()
	f, e, on := newFiles(t, "a", "b", "c"), newEngine(t), true
	e.Inject = failAt("b", &on)
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway)
	e.Inject = nil
	return f, e, res.ID
}

func TestAResumeOfAnotherPlanIsRefused(t *testing.T) {
	f, e, id := stopAtB(t)
	for name, tc := range map[string]struct {
		change func(p *Plan)
		text   string
	}{
		"kind":     {func(p *Plan) { p.Kind = "others" }, `is of kind "files", not "others"`},
		"target":   {func(p *Plan) { p.Target = "others" }, "its target is files, here it would be others"},
		"params":   {func(p *Plan) { p.Params = json.RawMessage(`{}`) }, "no longer the one that was approved"},
		"version":  {func(p *Plan) { p.Steps[2].Version = 2 }, "no longer the one that was approved"},
		"order":    {func(p *Plan) { p.Steps[1], p.Steps[2] = p.Steps[2], p.Steps[1] }, "no longer the one that was approved"},
		"one less": {func(p *Plan) { p.Steps = p.Steps[:2] }, "no longer the one that was approved"},
		"no undo":  {func(p *Plan) { p.Steps[2].Undo, p.Steps[2].Irreversible = nil, true }, "no longer the one that was approved"},
	} {
		t.Run(name, func(t *testing.T) {
			f.change = tc.change
			for _, verb := range []func(context.Context, string, Rebuild, Asker) (*Result, error){e.Resume, e.Undo} {
				_, err := verb(t.Context(), id, f.rebuild, yes{})
				wantCode(t, err, fail.Refused, tc.text)
			}
		})
	}
	_, err := e.Resume(t.Context(), id, nil, yes{})
	wantCode(t, err, fail.Refused, `does not know the kind "files"`)
	if f.there(t) != "a" {
		t.Errorf("files %q", f.there(t))
	}
}

func TestANewerProgramWithOtherWordsMayFinishARun(t *testing.T) {
	f, e, id := stopAtB(t)
	f.change = func(p *Plan) { p.Title, p.Steps[1].Line = "produce files", "produce file b" }
	n := &no{}
	if _, err := e.Resume(t.Context(), id, f.rebuild, n); fail.CodeOf(err) != fail.Refused {
		t.Errorf("declined: %v", err)
	}
	if got := strings.Join(n.asked[0].Lines, "; "); got != "make file b (failed before); make file c" {
		t.Errorf("asked %q: it must show what was approved, and only what is left", got)
	}
	if res, err := e.Resume(t.Context(), id, f.rebuild, yes{}); err != nil || res.State != Done {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestResumeRunsThePreflightOfWhatHasNotBegunOnly(t *testing.T) {
	f, e, id := stopAtB(t)
	var asked []string
	f.change = func(p *Plan) {
		for i := range p.Steps {
			name := p.Steps[i].Name
			p.Steps[i].Preflight = func(_ context.Context, r *Run) error {
				asked = append(asked, name)
				var before string
				return r.Output("a", &before)
			}
		}
	}
	if _, err := e.Resume(t.Context(), id, f.rebuild, yes{}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(asked, " ") != "c" {
		t.Errorf("preflight of %q, want c", asked)
	}
}

func TestAResumeWhosePreflightRefusesChangesNothing(t *testing.T) {
	f, e, id := stopAtB(t)
	f.change = func(p *Plan) {
		p.Steps[2].Preflight = func(context.Context, *Run) error { return errBoom }
	}
	_, err := e.Resume(t.Context(), id, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, `preflight: step 3/3 "c": boom`)
	if r := only(t, e); len(r.Resumes) != 0 || f.there(t) != "a" {
		t.Errorf("%+v, files %q", r.Resumes, f.there(t))
	}
}

func TestOnlyAnOpenRunIsResumed(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	res, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.Resume(t.Context(), res.ID, f.rebuild, &no{}); err != nil || again.State != Done {
		t.Errorf("done: %+v, %v", again, err)
	}
	if _, err := e.Undo(t.Context(), res.ID, f.rebuild, yes{}); err != nil {
		t.Fatal(err)
	}
	_, err = e.Resume(t.Context(), res.ID, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, "is undone: nothing to resume")
	_, err = e.Undo(t.Context(), res.ID, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, "is undone: nothing to undo")
	_, err = e.Abandon(t.Context(), res.ID, yes{})
	wantCode(t, err, fail.Refused, "is undone: nothing to abandon")
	_, err = e.Resume(t.Context(), "ffffffff", f.rebuild, yes{})
	wantCode(t, err, fail.Refused, "not found")
}

func TestOnceTurnedBackARunStaysOnItsWayBack(t *testing.T) {
	f, e, id := stopAtB(t)
	ctx, cancel := context.WithCancel(t.Context())
	e.Inject = func(p Point, _ string) error {
		if p == BeforeUndo {
			cancel()
		}
		return nil
	}
	f.change = func(p *Plan) {
		undo := p.Steps[0].Undo
		p.Steps[0].Undo = func(ctx context.Context, r *Run) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return undo(ctx, r)
		}
	}
	_, err := e.Undo(ctx, id, f.rebuild, yes{})
	wantCode(t, err, fail.Midway, `interrupted before the undo of step 1/3 "a"`)
	if r := only(t, e); r.State != Undoing {
		t.Errorf("%+v", r)
	}
	e.Inject = nil
	res, err := e.Resume(t.Context(), id, f.rebuild, yes{})
	if err != nil || res.State != Undone || f.there(t) != "" {
		t.Errorf("%+v, %v, files %q", res, err, f.there(t))
	}
}

func TestAFailedUndoIsStuckUntilAHumanDecides(t *testing.T) {
	f, e, id := stopAtB(t)
	e.Inject = func(p Point, s string) error {
		if p == BeforeUndo && s == "a" {
			return errBoom
		}
		return nil
	}
	res, err := e.Undo(t.Context(), id, f.rebuild, yes{})
	wantCode(t, err, fail.Stuck, "run "+id+`: stuck: undo of step 1/3 "a": boom`)
	wantHint(t, err, "tritonops runs show "+id)
	if res.State != Stuck || !res.Changed {
		t.Errorf("%+v", res)
	}
	_, err = e.Resume(t.Context(), id, f.rebuild, yes{})
	wantCode(t, err, fail.Stuck, "boom")
	_, err = run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, "is stuck")
	e.Inject = nil
	if res, err := e.Undo(t.Context(), id, f.rebuild, yes{}); err != nil || res.State != Undone || f.there(t) != "" {
		t.Errorf("%+v, %v, files %q", res, err, f.there(t))
	}
}

func TestBehindAnIrreversibleStepARunOnlyGoesForward(t *testing.T) {
	f, e, on := newFiles(t, "a", "b", "c"), newEngine(t), true
	e.Inject = failAt("c", &on)
	f.change = func(p *Plan) { p.Steps[1].Undo, p.Steps[1].Irreversible = nil, true }
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway)
	if h := strings.Join(fail.Hints(err), "\n"); strings.Contains(h, "undo") {
		t.Errorf("hints %q", h)
	}
	_, err = e.Undo(t.Context(), res.ID, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, `step 2/3 "b" cannot be undone and has begun`)
	wantHint(t, err, "tritonops runs resume "+res.ID)
	if r := only(t, e); r.NoReturn != "b" || strings.Contains(strings.Join(r.Next, " "), "undo") {
		t.Errorf("%+v", r)
	}
}

func TestAnUndoSaysWhatItLeaves(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	f.change = func(p *Plan) { p.Steps[0].Leaves = "the name a in the log" }
	res, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	n := &no{}
	_, err = e.Undo(t.Context(), res.ID, f.rebuild, n)
	wantCode(t, err, fail.Refused, "declined")
	if got := strings.Join(n.asked[0].Lines, "; "); got != "undo: make file b; undo: make file a; leave in place: the name a in the log" {
		t.Errorf("asked %q", got)
	}
	res, err = e.Undo(t.Context(), res.ID, f.rebuild, yes{})
	if err != nil || strings.Join(res.Leaves, "") != "the name a in the log" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestADoneRunIsUndoneOnlyIfNothingCameAfterIt(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	first, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	e.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) } // the clock was set back
	second, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Undo(t.Context(), first.ID, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, "run "+second.ID+" of the same target came later and is done")
	wantHint(t, err, "tritonops runs undo "+second.ID)
	for _, id := range []string{second.ID, first.ID} {
		if _, err := e.Undo(t.Context(), id, f.rebuild, yes{}); err != nil {
			t.Errorf("run %s: %v", id, err)
		}
	}
}

func TestAnUndoThatIsRefusedNamesTheNewestRunWhichGoesFirst(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	var ids []string
	for range 3 {
		res, err := run(t.Context(), t, e, f.plan())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, res.ID)
		e.Now = func() time.Time { return time.Now().Add(time.Duration(len(ids)) * time.Hour) }
	}
	_, err := e.Undo(t.Context(), ids[0], f.rebuild, yes{})
	wantHint(t, err, "tritonops runs undo "+ids[2])
}

func TestAStepWhoseUndoCopesIsNotFinishedBeforeItIsUndone(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	applied := 0
	f.change = func(p *Plan) {
		apply := p.Steps[1].Apply
		p.Steps[1].Satisfied = nil
		p.Steps[1].UndoCopes = true
		p.Steps[1].Apply = func(_ context.Context, r *Run) (any, error) {
			applied++
			if _, err := apply(t.Context(), r); err != nil {
				return nil, err
			}
			cancel()
			return nil, ctx.Err()
		}
	}
	_, err := run(ctx, t, e, f.plan())
	wantCode(t, err, fail.Midway, "outcome unknown")
	all, err := e.List()
	if err != nil {
		t.Fatal(err)
	}
	n := &no{}
	_, err = e.Undo(t.Context(), all[0].ID, f.rebuild, n)
	wantCode(t, err, fail.Refused, "declined")
	if got := strings.Join(n.asked[0].Lines, "; "); got != "undo: make file b; undo: make file a" {
		t.Errorf("asked %q", got)
	}
	res, err := e.Undo(t.Context(), all[0].ID, f.rebuild, yes{})
	if err != nil || res.State != Undone || applied != 1 || f.there(t) != "" {
		t.Errorf("%+v, %v; applied %d times, files %q", res, err, applied, f.there(t))
	}
}

func TestAbandonTouchesNothingAndSaysWhatItLeaves(t *testing.T) {
	f, e, id := stopAtB(t)
	n := &no{}
	_, err := e.Abandon(t.Context(), id, n)
	wantCode(t, err, fail.Refused, "declined")
	if got := strings.Join(n.asked[0].Lines, "; "); got != "make file a: applied; make file b: failed, may be applied in part; make file c: not begun" {
		t.Errorf("asked %q", got)
	}
	r, err := e.Abandon(t.Context(), id, yes{})
	if err != nil || r.State != Abandoned || f.there(t) != "a" {
		t.Errorf("%+v, %v, files %q", r, err, f.there(t))
	}
	_, err = e.Undo(t.Context(), id, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, "is abandoned: nothing to undo")
}

func TestForgetRemovesAnEndedRunWithItsArtifactsAndSaysSo(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	f.change = func(p *Plan) {
		apply := p.Steps[0].Apply
		p.Steps[0].Apply = func(ctx context.Context, r *Run) (any, error) {
			if err := r.Artifact("old value", []byte("hunter2")); err != nil {
				return nil, err
			}
			return apply(ctx, r)
		}
	}
	res, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	n := &no{}
	_, err = e.Forget(t.Context(), res.ID, n)
	wantCode(t, err, fail.Refused, "declined")
	if got := strings.Join(n.asked[0].Lines, "; "); got != `it can no longer be undone; remove artifact "old value" of step "a" (7 bytes)` {
		t.Errorf("asked %q", got)
	}
	got, err := e.Forget(t.Context(), res.ID, yes{})
	if err != nil || len(got.Artifacts) != 1 || got.Artifacts[0].Name != "old value" {
		t.Errorf("%+v, %v", got, err)
	}
	es, _ := os.ReadDir(e.Dir)
	if len(es) != 1 {
		t.Errorf("left: %v", es)
	}
	_, e, id := stopAtB(t)
	_, err = e.Forget(t.Context(), id, yes{})
	wantCode(t, err, fail.Refused, "it can be forgotten when it has ended")
	wantHint(t, err, "tritonops runs abandon "+id)
}

func TestADamagedRunBlocksIsListedAndForgottenByItsName(t *testing.T) {
	f, e, id := stopAtB(t)
	path := filepath.Join(e.Dir, id, "journal.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("{}\n"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := only(t, e); r.State != Damaged || r.Damage == "" || r.Target != "files" {
		t.Errorf("%+v", r)
	}
	_, err = run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, "might be unfinished on this target")
	for _, verb := range []func() error{
		func() error { _, err := e.Resume(t.Context(), id, f.rebuild, yes{}); return err },
		func() error { _, err := e.Undo(t.Context(), id, f.rebuild, yes{}); return err },
		func() error { _, err := e.Abandon(t.Context(), id, yes{}); return err },
	} {
		if err := verb(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
	n := &no{}
	if _, err := e.Forget(t.Context(), id, n); fail.CodeOf(err) != fail.Refused || n.asked[0].TypeName != id {
		t.Errorf("%v, asked %+v", err, n.asked)
	}
	if got, err := e.Forget(t.Context(), id, yes{}); err != nil || got.Damage == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Error(err)
	}
}

func TestLeftoversOfACrashAreRemovedByTheNextRun(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	mine, other := newPrefix+targetHash("files")+"-aaaaaa", newPrefix+targetHash("others")+"-bbbbbb"
	for _, d := range []string{mine, other, gonePrefix + "cccccc"} {
		if err := os.MkdirAll(filepath.Join(e.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[string]bool{mine: false, other: true, gonePrefix + "cccccc": false} {
		if _, err := os.Stat(filepath.Join(e.Dir, d)); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", d, err == nil, want)
		}
	}
}

func TestPrefixesOfIDsMustBeUnique(t *testing.T) {
	e := newEngine(t)
	for _, id := range []string{"aabbcc", "aabbdd", "aabb11223344"} {
		if err := os.MkdirAll(filepath.Join(e.Dir, id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string]string{"aabbc": "aabbcc", "aabb1": "aabb11223344", "aabb": "", "": "", "x": "", "../": ""} {
		got, err := e.Match(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

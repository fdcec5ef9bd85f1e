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

func TestARunThatGoesThroughIsDoneAndTellsSo(t *testing.T) {
	f, e, rec := newFiles(t, "a", "b"), newEngine(t), &recorder{}
	e.Observer = rec
	res, err := run(t.Context(), t, e, f.plan())
	if err != nil || res.State != Done || !res.Changed || f.there(t) != "a b" {
		t.Fatalf("%+v, %v, files %q", res, err, f.there(t))
	}
	if b, _ := os.ReadFile(f.path("b")); string(b) != "a" {
		t.Errorf("output of step a did not reach step b: %q", b)
	}
	if got, want := rec.names(), "run_started step_started step_done step_started step_done run_ended"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	r := only(t, e)
	if r.State != Done || r.By.Who != "root@hn1" || stepStates(r) != "a=succeeded b=succeeded" {
		t.Errorf("%+v", r)
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, r.ID: 0o700, r.ID + "/plan.json": 0o600, r.ID + "/journal.jsonl": 0o600} {
		if fi, err := os.Stat(filepath.Join(e.Dir, path)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%q: mode %v, %v", path, fi.Mode(), err)
		}
	}
}

func TestNothingStartsWithoutTheApprovalOfThisPlan(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	_, err := e.Start(t.Context(), f.plan(), Approval{})
	wantCode(t, err, fail.Refused, "not the plan that was approved")
	a, err := Confirm(t.Context(), f.plan(), yes{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *Plan){
		"params": func(p *Plan) { p.Params = json.RawMessage(`{"n":4}`) },
		"target": func(p *Plan) { p.Target = "others" },
		"line":   func(p *Plan) { p.Steps[0].Line = "make file a, and more" },
		"steps":  func(p *Plan) { p.Steps = append(p.Steps, f.step(0, "z")) },
		"title":  func(p *Plan) { p.Title = "x" },
	} {
		p := f.plan()
		change(&p)
		if _, err := e.Start(t.Context(), p, a); fail.CodeOf(err) != fail.Refused {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if f.there(t) != "" {
		t.Errorf("files: %q", f.there(t))
	}
	same := f.plan()
	same.Params = json.RawMessage(`{ "n" :3}`) // spelling is not meaning
	if _, err := e.Start(t.Context(), same, a); err != nil {
		t.Error(err)
	}
}

func TestAPlanThatIsDeclinedIsRefused(t *testing.T) {
	f, n := newFiles(t, "a", "b"), &no{}
	f.change = func(p *Plan) { p.Steps[1].Undo, p.Steps[1].Irreversible = nil, true }
	_, err := Confirm(t.Context(), f.plan(), n)
	wantCode(t, err, fail.Refused, "declined, nothing changed")
	q := n.asked[0]
	if len(q.Lines) != 2 || len(q.Irreversible) != 1 || q.Irreversible[0] != "make file b" {
		t.Errorf("question %+v", q)
	}
}

func TestPlansThatCannotBeRunAreNotShownEither(t *testing.T) {
	for name, change := range map[string]func(p *Plan){
		"no target":         func(p *Plan) { p.Target = "" },
		"no steps":          func(p *Plan) { p.Steps = nil },
		"same name twice":   func(p *Plan) { p.Steps[1].Name = p.Steps[0].Name },
		"no apply":          func(p *Plan) { p.Steps[0].Apply = nil },
		"no undo":           func(p *Plan) { p.Steps[0].Undo = nil },
		"undo and no undo":  func(p *Plan) { p.Steps[0].Irreversible = true },
		"escape sequence":   func(p *Plan) { p.Steps[0].Line = "\x1b[2J" },
		"params not JSON":   func(p *Plan) { p.Params = json.RawMessage(`{`) },
		"secret of nowhere": func(p *Plan) { p.Secrets = []SecretRef{{Name: "x", From: "argv"}} },
	} {
		f := newFiles(t, "a", "b")
		f.change = change
		if _, err := Confirm(t.Context(), f.plan(), yes{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAPreflightThatRefusesLeavesNoRunAndNamesAllReasons(t *testing.T) {
	f, e := newFiles(t, "a", "b", "c"), newEngine(t)
	f.change = func(p *Plan) {
		p.Steps[0].Preflight = func(context.Context, *Run) error { return errors.New("no space") }
		p.Steps[2].Preflight = func(context.Context, *Run) error { return errors.New("no route") }
	}
	for _, try := range []func() error{
		func() error { return e.Preflight(t.Context(), f.plan()) },
		func() error { _, err := run(t.Context(), t, e, f.plan()); return err },
	} {
		wantCode(t, try(), fail.Refused, `preflight: step 1/3 "a": no space; step 3/3 "c": no route`)
	}
	f.change = func(p *Plan) {
		p.Steps[0].Preflight = func(context.Context, *Run) error { return fail.New(fail.Unreachable, "manta: no answer") }
	}
	_, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Unreachable, "manta: no answer")
	if all, err := e.List(); len(all) != 0 || err != nil {
		t.Errorf("runs left: %v, %v", all, err)
	}
}

func TestAStepFoundSatisfiedIsNotThisRunsWork(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	if err := os.WriteFile(f.path("a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := run(t.Context(), t, e, f.plan())
	if err != nil {
		t.Fatal(err)
	}
	if got := stepStates(only(t, e)); got != "a=already b=succeeded" {
		t.Errorf("steps %s", got)
	}
	if b, _ := os.ReadFile(f.path("b")); string(b) != "a" {
		t.Errorf("the output of a satisfied step did not reach the next: %q", b)
	}
	if _, err := e.Undo(t.Context(), res.ID, f.rebuild, yes{}); err != nil {
		t.Fatal(err)
	}
	if f.there(t) != "a" {
		t.Errorf("files %q: undo must leave what was there before", f.there(t))
	}
}

func TestAFailedStepLeavesARunThatCanBeResumedOrUndone(t *testing.T) {
	for _, way := range []string{"resume", "undo"} {
		f, e, on := newFiles(t, "a", "b", "c"), newEngine(t), true
		e.Inject = failAt("b", &on)
		res, err := run(t.Context(), t, e, f.plan())
		wantCode(t, err, fail.Midway, "run "+res.ID+`: step 2/3 "b" failed: boom`)
		wantHint(t, err, "tritonops runs resume "+res.ID)
		wantHint(t, err, "tritonops runs undo "+res.ID)
		if !errors.Is(err, errBoom) {
			t.Errorf("the cause is lost: %v", err)
		}
		if r := only(t, e); r.State != Midway || r.Step != 2 || r.Steps[1].Error != "boom" {
			t.Errorf("%+v", r)
		}
		on = false
		if way == "resume" {
			res, err = e.Resume(t.Context(), res.ID[:3], f.rebuild, yes{})
			if err != nil || res.State != Done || f.there(t) != "a b c" {
				t.Errorf("resume: %+v, %v, files %q", res, err, f.there(t))
			}
			if r := only(t, e); len(r.Resumes) != 1 || r.Resumes[0].By.Who != "root@hn1" || r.Steps[1].Attempts != 2 {
				t.Errorf("%+v", r)
			}
			continue
		}
		res, err = e.Undo(t.Context(), res.ID, f.rebuild, yes{})
		if err != nil || res.State != Undone || res.Changed || f.there(t) != "" {
			t.Errorf("undo: %+v, %v, files %q", res, err, f.there(t))
		}
	}
}

func TestAFirstStepThatChangedNothingEndsTheRunWithTheStateAsBefore(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	cause := errBoom
	f.change = func(p *Plan) {
		p.Steps[0].Apply = func(context.Context, *Run) (any, error) { return nil, Unchanged(cause) }
	}
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Failed, `step 1/2 "a" failed: boom`)
	if res.State != Undone || res.Changed {
		t.Errorf("%+v", res)
	}
	cause = fail.New(fail.Unreachable, "no answer")
	if _, err = run(t.Context(), t, e, f.plan()); fail.CodeOf(err) != fail.Unreachable {
		t.Errorf("a second run, with another cause: %v", err)
	}
}

func TestALaterStepThatChangedNothingLeavesTheRunMidway(t *testing.T) {
	f, e, broken := newFiles(t, "a", "b"), newEngine(t), true
	f.change = func(p *Plan) {
		apply := p.Steps[1].Apply
		p.Steps[1].Apply = func(ctx context.Context, r *Run) (any, error) {
			if broken {
				return nil, Unchanged(errBoom)
			}
			return apply(ctx, r)
		}
	}
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway)
	broken = false
	if res, err = e.Resume(t.Context(), res.ID, f.rebuild, yes{}); err != nil || res.State != Done {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAStepThatDoesNotVerifyHasFailed(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	f.change = func(p *Plan) {
		p.Steps[0].Verify = func(_ context.Context, r *Run) error {
			var got string
			if err := r.Output("a", &got); err != nil || got != "a" {
				t.Errorf("verify does not see the output: %q, %v", got, err)
			}
			return errors.New("not there")
		}
	}
	_, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway, "not verified: not there")
}

func TestACancelBeforeAnythingBeganLeavesNoRun(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.change = func(p *Plan) {
		p.Steps[0].Satisfied = func(ctx context.Context, _ *Run) (bool, any, error) { cancel(); return false, nil, ctx.Err() }
	}
	_, err := run(ctx, t, e, f.plan())
	wantCode(t, err, fail.Interrupted)
	es, _ := os.ReadDir(e.Dir)
	if len(es) != 1 || es[0].Name() != ".locks" {
		t.Errorf("left: %v", es)
	}
}

func TestACancelWithinAStepIsNotedAndItsOutcomeUnknown(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	e.Inject = func(p Point, s string) error {
		if p == BeforeApply && s == "b" {
			cancel()
		}
		return nil
	}
	res, err := run(ctx, t, e, f.plan())
	wantCode(t, err, fail.Midway, `step 2/2 "b" stopped after it began; outcome unknown`)
	wantHint(t, err, "tritonops runs resume "+res.ID)
	r := only(t, e)
	if r.Steps[1].State != StateStarted || !strings.HasPrefix(r.Stopped, `interrupted at "b"`) {
		t.Errorf("%+v", r)
	}
	if res, err := e.Resume(t.Context(), res.ID, f.rebuild, yes{}); err != nil || res.State != Done {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAnUnfinishedRunBlocksItsTargetAndNoOther(t *testing.T) {
	f, e, on := newFiles(t, "a"), newEngine(t), true
	e.Inject = failAt("a", &on)
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway)
	on = false
	_, err = run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, "run "+res.ID+` is midway at step 1/1 "a"`)
	wantHint(t, err, "tritonops runs resume "+res.ID)
	wantHint(t, err, "tritonops runs abandon "+res.ID)
	wantCode(t, e.Preflight(t.Context(), f.plan()), fail.Refused)
	other := newFiles(t, "a")
	other.target = "other files"
	if _, err := run(t.Context(), t, e, other.plan()); err != nil {
		t.Errorf("another target: %v", err)
	}
	if _, err := e.Abandon(t.Context(), res.ID, yes{}); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Errorf("after abandon: %v", err)
	}
}

func TestARunAtWorkHoldsItsTarget(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	second := &Engine{Dir: e.Dir}
	e.Inject = func(p Point, _ string) error {
		if p != BeforeApply {
			return nil
		}
		all, err := second.List()
		if err != nil || len(all) != 1 || all[0].State != Running || all[0].PID != os.Getpid() {
			t.Errorf("list while at work: %+v, %v", all, err)
		}
		_, err = run(t.Context(), t, second, f.plan())
		wantCode(t, err, fail.Held, "another run is at work")
		wantHint(t, err, "tritonops runs show "+all[0].ID)
		_, err = second.Resume(t.Context(), all[0].ID, f.rebuild, yes{})
		wantCode(t, err, fail.Held)
		wantCode(t, second.Preflight(t.Context(), f.plan()), fail.Held)
		return nil
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Fatal(err)
	}
}

func TestAJournalThatCannotBeWrittenStopsTheRunBeforeTheNextEffect(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	open := func() *execution {
		t.Helper()
		if err := os.MkdirAll(e.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pf, err := e.create(f.plan().document(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		x, err := e.open(f.plan(), pf, secrets{})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	x := open()
	x.close()
	_, err := x.conduct(t.Context(), false)
	wantCode(t, err, fail.Failed, "journal not written")
	if all, _ := e.List(); len(all) != 0 || f.there(t) != "" {
		t.Errorf("left: %v, files %q", all, f.there(t))
	}

	x = open()
	e.Inject = func(p Point, s string) error {
		if p == AfterApply {
			x.close()
		}
		return nil
	}
	_, err = x.conduct(t.Context(), false)
	wantCode(t, err, fail.Midway, "journal not written")
	if f.there(t) != "a" {
		t.Errorf("files %q: the second step must not begin", f.there(t))
	}
	e.Inject = nil
	if res, err := e.Resume(t.Context(), x.file.ID, f.rebuild, yes{}); err != nil || res.State != Done {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestProgressAndDetailsReachTheObserver(t *testing.T) {
	f, e, rec := newFiles(t, "a"), newEngine(t), &recorder{}
	e.Observer = rec
	f.change = func(p *Plan) {
		apply := p.Steps[0].Apply
		p.Steps[0].Apply = func(ctx context.Context, r *Run) (any, error) {
			m := r.Progress()
			m.Phase("copying", 3, "files")
			for range 3 {
				m.Add(1)
			}
			m.Note("halfway " + r.Target())
			return apply(ctx, r)
		}
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Fatal(err)
	}
	var last StepProgress
	details := 0
	for _, ev := range rec.events {
		switch ev := ev.(type) {
		case StepProgress:
			last = ev
		case StepDetail:
			details++
			if ev.Text != "halfway files" || ev.Step != "a" || ev.Run == "" {
				t.Errorf("%+v", ev)
			}
		}
	}
	if last.Done != 3 || last.Total != 3 || last.Unit != "files" || details != 1 {
		t.Errorf("last %+v, details %d", last, details)
	}
}

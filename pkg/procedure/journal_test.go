package procedure

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

var update = flag.Bool("update", false, "write the golden journals again")

const (
	brokenDir = "../../testdata/broken/journals"
	goldenID  = "8f2c41"
)

// goldenPlan is the plan of the golden journals.
func goldenPlan(t testing.TB) *planFile {
	t.Helper()
	f := newFiles(t, "a", "b", "c")
	d := f.plan().document()
	return &planFile{
		Format: planFormat, Version: 1, ID: goldenID, Created: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		By: By{Who: "root@hn1", PID: 4211, Tool: "1.0.0"}, Digest: d.digest(), Plan: d,
	}
}

// goldenJournal is a sound journal that stopped in step b.
func goldenJournal(p *planFile) []string {
	at := p.Created
	rec := func(r Record) string {
		at = at.Add(time.Second)
		r.At = at
		b, _ := json.Marshal(r)
		return string(b) + "\n"
	}
	return []string{
		rec(Record{Event: EventCreated, By: &p.By, Format: journalFormat, Version: 1, Run: p.ID, Plan: p.Digest}),
		rec(Record{Seq: 1, Event: EventStarted, Step: "a"}),
		rec(Record{Seq: 2, Event: EventSucceeded, Step: "a", Output: json.RawMessage(`"a"`)}),
		rec(Record{Seq: 3, Event: EventStarted, Step: "b"}),
	}
}

// brokenJournals are the golden cases: what is done to a sound run, and what
// must be said about it. An empty text means that the run is readable.
func brokenJournals() map[string]struct {
	spoil func(plan string, lines []string) (string, []string)
	text  string
	code  fail.Code
} {
	type c = struct {
		spoil func(plan string, lines []string) (string, []string)
		text  string
		code  fail.Code
	}
	onLine := func(n int, from, to string) func(string, []string) (string, []string) {
		return func(plan string, l []string) (string, []string) {
			l[n] = strings.Replace(l[n], from, to, 1)
			return plan, l
		}
	}
	return map[string]c{
		"torn": {func(p string, l []string) (string, []string) {
			return p, append(l, `{"seq":4,"at":"2026-11-22T12:0`)
		}, "", fail.OK},
		"torn-before-newline": {func(p string, l []string) (string, []string) {
			return p, append(l, `{"seq":4,"at":"2026-11-22T12:00:05Z","event":"succeeded","step":"b"}`)
		}, "", fail.OK},
		"gap":            {onLine(3, `"seq":3`, `"seq":4`), "sequence number 4, want 3", fail.Failed},
		"bad-json":       {onLine(2, `"event"`, `"event`), "line 3", fail.Failed},
		"unknown-field":  {onLine(2, `"output"`, `"0utput"`), "unknown field", fail.Failed},
		"unknown-event":  {onLine(3, `"started"`, `"strated"`), `unknown event "strated"`, fail.Failed},
		"unknown-step":   {onLine(3, `"b"`, `"z"`), `unknown step "z"`, fail.Failed},
		"illegal-order":  {onLine(3, `"b"`, `"c"`), `while the earlier step "b" is pending`, fail.Failed},
		"future-version": {onLine(0, `"version":1`, `"version":2,"new":true`), "format version 2: written by a newer tritonops", fail.Refused},
		"foreign-digest": {onLine(0, `sha256:`, `sha256:0`), "journal of another plan", fail.Failed},
		"foreign-run":    {onLine(0, goldenID, "aaaaaa"), `journal of run "aaaaaa"`, fail.Failed},
		"empty":          {func(p string, _ []string) (string, []string) { return p, nil }, "no header", fail.Failed},
		"zeros": {func(p string, l []string) (string, []string) {
			return p, append(l, strings.Repeat("\x00", 100)+"\n")
		}, "line 5", fail.Failed},
		"plan-digest": {func(p string, l []string) (string, []string) {
			return strings.Replace(p, `"n": 3`, `"n": 4`, 1), l
		}, "digest is", fail.Failed},
		"plan-future-version": {func(p string, l []string) (string, []string) {
			return strings.Replace(p, `"version": 1`, `"version": 7`, 1), l
		}, "format version 7", fail.Refused},
	}
}

// TestGoldenJournalsAreReadOrRefusedAsTheirNamesSay reads the runs below
// testdata/broken/journals: each is the only run of a runs directory.
func TestGoldenJournalsAreReadOrRefusedAsTheirNamesSay(t *testing.T) {
	if *update {
		writeGoldens(t)
	}
	for name, tc := range brokenJournals() {
		t.Run(name, func(t *testing.T) {
			e := &Engine{Dir: filepath.Join(brokenDir, name)}
			_, s, err := e.read(goldenID)
			if tc.text == "" {
				if err != nil || s.state() != Midway || s.steps[1].state != StateStarted {
					t.Fatalf("%+v, %v", s, err)
				}
				return
			}
			wantCode(t, err, tc.code, tc.text, goldenID)
			if errors.Is(err, ErrDamaged) != (tc.code == fail.Failed) {
				t.Errorf("damaged or refused: %v", err)
			}
			r, err := e.Show(goldenID)
			if err != nil || r.State != Damaged || !strings.Contains(r.Damage, tc.text) {
				t.Errorf("show: %+v, %v", r, err)
			}
		})
	}
}

func writeGoldens(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(brokenDir); err != nil {
		t.Fatal(err)
	}
	for name, tc := range brokenJournals() {
		dir := filepath.Join(brokenDir, name, goldenID)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		p := goldenPlan(t)
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		plan, lines := tc.spoil(string(b), goldenJournal(p))
		for file, text := range map[string]string{planName: plan + "\n", journalName: strings.Join(lines, "")} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestATornLineIsCutOffBeforeAnythingIsAppended(t *testing.T) {
	for _, torn := range []string{`{"seq":5,"at":"1999`, "{", strings.Repeat("x", 5000)} {
		f, e, id := stopAtB(t)
		path := filepath.Join(e.Dir, id, journalName)
		j, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(j, torn)
		j.Close()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if r := only(t, e); r.State != Midway {
			t.Errorf("%+v", r)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Error("reading changed the journal")
		}
		if res, err := e.Resume(t.Context(), id, f.rebuild, yes{}); err != nil || res.State != Done {
			t.Errorf("%+v, %v", res, err)
		}
		if b, _ := os.ReadFile(path); bytes.Contains(b, []byte(torn)) && torn != "{" {
			t.Errorf("the torn line is still there:\n%s", b)
		}
	}
}

func TestEveryCutOfAJournalIsReadOrRefusedNeverMisread(t *testing.T) {
	p := goldenPlan(t)
	whole := []byte(strings.Join(goldenJournal(p), ""))
	header := bytes.IndexByte(whole, '\n') + 1
	for n := range len(whole) + 1 {
		s, good, err := readJournal(whole[:n], p)
		if n < header {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		if lines := bytes.Count(whole[:n], []byte("\n")); err != nil || s.next != lines || good > int64(n) {
			t.Errorf("%d bytes: %d of %d records, good to %d, %v", n, s.next, lines, good, err)
		}
	}
}

// TestIllegalTransitionsAreErrors tries every event in every state that a short
// legal history can reach, and compares with the rules stated one by one.
func TestIllegalTransitionsAreErrors(t *testing.T) {
	forward := map[StepState]string{
		StatePending: "started already", StateStarted: "succeeded failed unchanged",
		StateFailed: "started", StateUnchanged: "started already",
	}
	back := map[StepState]string{
		StateStarted: "succeeded failed unchanged", StateSucceeded: "undo_started", StateFailed: "undo_started",
		StateUndoing: "undone undo_failed", StateUndoFailed: "undo_started",
	}
	events := map[string]Record{
		"started": {Event: EventStarted}, "succeeded": {Event: EventSucceeded}, "already": {Event: EventSucceeded, Already: true},
		"failed": {Event: EventFailed}, "unchanged": {Event: EventFailed, Unchanged: true},
		"undo_started": {Event: EventUndoStarted}, "undone": {Event: EventUndone}, "undo_failed": {Event: EventUndoFailed},
	}
	states := []StepState{StatePending, StateStarted, StateSucceeded, StateAlready, StateFailed, StateUnchanged, StateUndoing, StateUndone, StateUndoFailed}
	for _, backward := range []bool{false, true} {
		rules := forward
		if backward {
			rules = back
		}
		for _, st := range states {
			for name, r := range events {
				s := newState(goldenPlan(t))
				s.next, s.backward, s.steps[0].state = 5, backward, st
				r.Seq, r.Step = 5, "a"
				err := s.apply(r)
				legal := strings.Contains(" "+rules[st]+" ", " "+name+" ")
				if (err == nil) != legal {
					t.Errorf("backward %v, %s, event %s: %v, want legal %v", backward, st, name, err, legal)
				}
			}
		}
	}
}

func TestAnEndMustFollowFromTheSteps(t *testing.T) {
	for _, tc := range []struct {
		name     string
		steps    [3]StepState
		backward bool
		end      State
		ok       bool
	}{
		{"done", [3]StepState{StateSucceeded, StateAlready, StateSucceeded}, false, Done, true},
		{"done too early", [3]StepState{StateSucceeded, StateSucceeded, StatePending}, false, Done, false},
		{"done going back", [3]StepState{StateSucceeded, StateSucceeded, StateSucceeded}, true, Done, false},
		{"undone", [3]StepState{StateUndone, StateAlready, StatePending}, true, Undone, true},
		{"undone too early", [3]StepState{StateSucceeded, StateUndone, StateUndone}, true, Undone, false},
		{"undone with a failure", [3]StepState{StateFailed, StatePending, StatePending}, false, Undone, false},
		{"stuck", [3]StepState{StateSucceeded, StateUndoFailed, StateUndone}, true, Stuck, true},
		{"stuck for nothing", [3]StepState{StateSucceeded, StateUndone, StateUndone}, true, Stuck, false},
		{"abandoned", [3]StepState{StateStarted, StatePending, StatePending}, false, Abandoned, true},
		{"no end", [3]StepState{StateSucceeded, StateSucceeded, StateSucceeded}, false, Midway, false},
	} {
		s := newState(goldenPlan(t))
		s.next, s.backward = 1, tc.backward
		for i, st := range tc.steps {
			s.steps[i].state = st
		}
		if err := s.apply(Record{Seq: 1, Event: EventEnded, End: tc.end}); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestARunDoesNotTurnBackBehindAnIrreversibleStep(t *testing.T) {
	for _, end := range []State{"", Done} {
		for i, st := range []StepState{StatePending, StateUnchanged, StateAlready, StateStarted, StateFailed, StateSucceeded} {
			p := goldenPlan(t)
			p.Plan.Steps[0].Irreversible = true
			s := newState(p)
			s.next, s.end, s.steps[0].state = 1, end, st
			if err := s.apply(Record{Seq: 1, Event: EventUndoing}); (err == nil) != (i < 3) {
				t.Errorf("%s, end %q: %v", st, end, err)
			}
		}
	}
}

func FuzzReadJournal(f *testing.F) {
	p := goldenPlan(f)
	lines := goldenJournal(p)
	f.Add([]byte(strings.Join(lines, "")))
	for _, tc := range brokenJournals() {
		_, l := tc.spoil("", goldenJournal(p))
		f.Add([]byte(strings.Join(l, "")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, good, err := readJournal(b, p)
		if err != nil {
			return
		}
		if good > int64(len(b)) || good == 0 || b[good-1] != '\n' || bytes.IndexByte(b[good:], '\n') >= 0 {
			t.Fatalf("good to %d of %d bytes", good, len(b))
		}
		again, _, err := readJournal(b[:good], p)
		if err != nil || again.next != s.next || again.state() != s.state() {
			t.Fatalf("without the torn line: %+v, %v", again, err)
		}
		report(s) // must not panic, whatever the state
	})
}

func FuzzReadPlan(f *testing.F) {
	b, err := json.MarshalIndent(goldenPlan(f), "", "  ")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 9`), 1))
	f.Add([]byte(`{"format":"tritonops-plan","version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPlanFile(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := readPlanFile(again)
		if err != nil || q.Digest != p.Digest {
			t.Fatalf("written again: %+v, %v", q, err)
		}
	})
}

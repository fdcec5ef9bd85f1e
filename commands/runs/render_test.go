package runs

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tritonops/tritonops/pkg/procedure"
)

func stepRef(n int) procedure.StepRef {
	return procedure.StepRef{Run: "8f2c41", N: n, Of: 12, Step: "download", Line: "download 400 files"}
}

// allEvents has one of every type.
func allEvents() []procedure.Event {
	r := stepRef(3)
	return []procedure.Event{
		procedure.PlanShown{Kind: "k", Target: "t", Title: "x", Digest: "sha256:0", Steps: []procedure.StepInfo{{Name: "a"}}},
		procedure.PreflightStarted{StepRef: r},
		procedure.PreflightEnded{},
		procedure.RunStarted{Run: "8f2c41", Title: "restore the images", Of: 12, Direction: "forward"},
		procedure.StepStarted{StepRef: r},
		procedure.StepDetail{StepRef: r, Text: "waiting for job 7: queued"},
		procedure.StepProgress{StepRef: r, Phase: "files", Done: 12, Total: 400, Unit: "files"},
		procedure.StepDone{StepRef: r, Took: procedure.Elapsed(2100 * time.Millisecond)},
		procedure.StepDone{StepRef: r, Already: true},
		procedure.StepFailed{StepRef: r, Error: "no space", Took: procedure.Elapsed(time.Second)},
		procedure.UndoStarted{StepRef: r},
		procedure.UndoDone{StepRef: r, Took: procedure.Elapsed(time.Second)},
		procedure.UndoFailed{StepRef: r, Error: "busy", Took: procedure.Elapsed(time.Second)},
		procedure.RunEnded{Run: "8f2c41", State: procedure.Undone, Leaves: []string{"the log"}, Took: procedure.Elapsed(90 * time.Second)},
	}
}

func fixedNow() time.Time { return time.Date(2026, 11, 22, 12, 0, 1, 0, time.UTC) }

func TestEveryEventIsOneLineOfJSONWithItsName(t *testing.T) {
	var buf bytes.Buffer
	o := NewEvents(&buf, Look{JSON: true, Now: fixedNow})
	for _, ev := range allEvents() {
		buf.Reset()
		o.Observe(ev)
		var m map[string]any
		if err := json.Unmarshal(buf.Bytes(), &m); err != nil || strings.Count(buf.String(), "\n") != 1 {
			t.Errorf("%T: %q, %v", ev, buf.String(), err)
		}
		if m["event"] != ev.EventName() || m["at"] != "2026-11-22T12:00:01Z" {
			t.Errorf("%T: %v", ev, m)
		}
	}
	buf.Reset()
	o.Observe(procedure.StepDone{StepRef: stepRef(3), Took: procedure.Elapsed(2100 * time.Millisecond)})
	want := `{"event":"step_done","at":"2026-11-22T12:00:01Z","run":"8f2c41","n":3,"of":12,"step":"download","line":"download 400 files","already":false,"took_seconds":2.1}` + "\n"
	if buf.String() != want {
		t.Errorf("got  %swant %s", buf.String(), want)
	}
}

func TestOffATerminalEveryEventIsAPlainLine(t *testing.T) {
	var buf bytes.Buffer
	o := NewEvents(&buf, Look{Now: fixedNow, Every: time.Nanosecond})
	for _, ev := range allEvents() {
		o.Observe(ev)
	}
	o.Observe(procedure.StepDetail{StepRef: stepRef(4), Text: "evil \x1b[2J"})
	want := `12:00:01Z run 8f2c41: restore the images (12 steps)
12:00:01Z 3/12 download: download 400 files
12:00:01Z 3/12 download: waiting for job 7: queued
12:00:01Z 3/12 download: done, 2.1s
12:00:01Z 3/12 download: download 400 files: was so already
12:00:01Z 3/12 download: failed after 1s: no space
12:00:01Z 3/12 download: undo: download 400 files
12:00:01Z 3/12 download: undone, 1s
12:00:01Z 3/12 download: undo failed after 1s: busy
12:00:01Z run 8f2c41: undone, 1m30s
12:00:01Z left on purpose: the log
12:00:01Z 4/12 download: evil \x1b[2J
`
	if buf.String() != want {
		t.Errorf("got\n%swant\n%s", buf.String(), want)
	}
}

func TestOffATerminalProgressComesEveryFewSecondsAndAtTheEnd(t *testing.T) {
	var buf bytes.Buffer
	now := fixedNow()
	o := NewEvents(&buf, Look{Now: func() time.Time { return now }})
	o.Observe(procedure.StepStarted{StepRef: stepRef(1)})
	buf.Reset()
	for i := range 100 {
		now = now.Add(200 * time.Millisecond)
		o.Observe(procedure.StepProgress{StepRef: stepRef(1), Phase: "files", Done: int64(i + 1), Total: 100, Unit: "files"})
	}
	if n := strings.Count(buf.String(), "\n"); n != 4 || !strings.Contains(buf.String(), "files: 25 of 100 files (25%)") || !strings.Contains(buf.String(), "(100%)") {
		t.Errorf("%d lines:\n%s", n, buf.String())
	}
}

func TestTheEndOfAPhaseIsToldOnceOffATerminal(t *testing.T) {
	var buf bytes.Buffer
	o := NewEvents(&buf, Look{Now: fixedNow})
	o.Observe(procedure.StepStarted{StepRef: stepRef(1)})
	for _, done := range []int64{1, 4, 4} {
		o.Observe(procedure.StepProgress{StepRef: stepRef(1), Phase: "files", Done: done, Total: 4, Unit: "files"})
	}
	if n := strings.Count(buf.String(), "(100%)"); n != 1 {
		t.Errorf("%d times:\n%s", n, buf.String())
	}
}

func TestALongStepOnANarrowTerminalKeepsItsProgressWithRateAndTimeLeft(t *testing.T) {
	s, now := &screen{}, fixedNow()
	o := NewEvents(s, Look{TTY: true, Width: func() int { return 80 }, Now: func() time.Time { return now }})
	ref := stepRef(1)
	ref.Line = "download into /data/" + strings.Repeat("long/", 20)
	o.Observe(procedure.StepStarted{StepRef: ref})
	o.Observe(procedure.StepProgress{StepRef: ref, Phase: "images", Done: 1 << 20, Total: 9 << 20, Unit: "bytes"})
	now = now.Add(2 * time.Second)
	o.Observe(procedure.StepProgress{StepRef: ref, Phase: "images", Done: 5 << 20, Total: 9 << 20, Unit: "bytes"})
	if got := s.last(); len(got) > 79 || !strings.HasSuffix(got, "...  2s  images: 5.0 MiB of 9.0 MiB (55%), 2.0 MiB/s, 2s left") {
		t.Errorf("%q of %d columns", got, len(got))
	}
	o.Observe(procedure.RunEnded{Run: "8f2c41", State: procedure.Done})
}

// screen shows what a terminal would, from what was written to it. It knows \r,
// newline and erasing the line.
type screen struct {
	mu    sync.Mutex
	lines []string
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	text := strings.ReplaceAll(string(p), clearLine, "\x00")
	for _, r := range text {
		last := len(s.lines) - 1
		switch r {
		case '\x00':
			s.lines[last] = ""
		case '\n':
			s.lines = append(s.lines, "")
		default:
			s.lines[last] += string(r)
		}
	}
	return len(p), nil
}

func (s *screen) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[len(s.lines)-1]
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func TestOnATerminalTheRunningStepIsTheLastLineAndItsClockRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{}
		o := NewEvents(s, Look{TTY: true, Width: func() int { return 80 }})
		o.Observe(procedure.PreflightStarted{StepRef: stepRef(1)})
		if s.last() != "   1/12 checking download 400 files  0s" {
			t.Errorf("%q", s.last())
		}
		o.Observe(procedure.PreflightEnded{})
		o.Observe(procedure.RunStarted{Run: "8f2c41", Title: "restore", Of: 12})
		o.Observe(procedure.StepStarted{StepRef: stepRef(1)})
		time.Sleep(3*time.Second + time.Millisecond)
		synctest.Wait()
		if s.last() != "   1/12 running  download 400 files  3s" {
			t.Errorf("%q", s.last())
		}
		o.Observe(procedure.StepProgress{StepRef: stepRef(1), Phase: "images", Done: 1 << 20, Total: 4 << 20, Unit: "bytes"})
		if s.last() != "   1/12 running  download 400 files  3s  images: 1.0 MiB of 4.0 MiB (25%)" {
			t.Errorf("%q", s.last())
		}
		o.Observe(procedure.StepDetail{StepRef: stepRef(1), Text: strings.Repeat("long \x1b", 40)})
		if len(s.last()) != 79 || !strings.HasSuffix(s.last(), "...") || strings.Contains(s.last(), "\x1b") {
			t.Errorf("%q of %d columns", s.last(), len(s.last()))
		}
		o.Observe(procedure.StepDone{StepRef: stepRef(1), Took: procedure.Elapsed(3 * time.Second)})
		o.Observe(procedure.StepDone{StepRef: stepRef(2), Already: true})
		o.Observe(procedure.StepStarted{StepRef: stepRef(3)})
		o.Observe(procedure.RunEnded{Run: "8f2c41", State: procedure.Midway, Took: procedure.Elapsed(4 * time.Second)})
		time.Sleep(5 * time.Second) // a clock that was left running would draw now
		want := `run 8f2c41: restore (12 steps)
   1/12 done     download 400 files  3s
   2/12 already  download 400 files
run 8f2c41: midway, 4s
`
		if s.all() != want {
			t.Errorf("got\n%swant\n%s", s.all(), want)
		}
	})
}

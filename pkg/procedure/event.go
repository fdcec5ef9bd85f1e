package procedure

import (
	"encoding/json"
	"strconv"
	"time"
)

// Elapsed is a duration; its JSON form is a number of seconds.
type Elapsed time.Duration

// MarshalJSON writes seconds to the millisecond.
func (e Elapsed) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(e).Round(time.Millisecond).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads seconds.
func (e *Elapsed) UnmarshalJSON(b []byte) error {
	var s float64
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*e = Elapsed(s * float64(time.Second))
	return nil
}

// String writes the duration for people: 340ms, 2.1s, 3m20s.
func (e Elapsed) String() string {
	d := time.Duration(e)
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Event is something an [Observer] may want to show. The concrete types are
// those of this file; their JSON form is the event stream of -j.
type Event interface{ EventName() string }

// Observer is told what happens. Calls come one at a time and must return
// quickly. Texts hold no secrets.
type Observer interface{ Observe(Event) }

// StepRef says which step of which run an event is about.
type StepRef struct {
	Run  string `json:"run,omitempty"` // empty before the run has begun
	N    int    `json:"n"`             // from 1
	Of   int    `json:"of"`
	Step string `json:"step"`
	Line string `json:"line"`
}

// PlanShown is the plan as the question shows it. The engine does not emit it:
// whoever asks does, with [Plan.Shown].
type PlanShown struct {
	Kind   string     `json:"kind"`
	Target string     `json:"target"`
	Title  string     `json:"title"`
	Digest string     `json:"digest"`
	Steps  []StepInfo `json:"steps"`
}

// PreflightStarted comes before each step's preflight.
type PreflightStarted struct{ StepRef }

// PreflightEnded comes after the last of them.
type PreflightEnded struct {
	Refusals int `json:"refusals"` // steps that cannot go
}

// RunStarted comes when a run begins, resumes or turns back.
type RunStarted struct {
	Run       string `json:"run"`
	Kind      string `json:"kind"`
	Target    string `json:"target"`
	Title     string `json:"title"`
	Of        int    `json:"of"`        // number of steps
	Direction string `json:"direction"` // "forward" or "back"
	Resumed   bool   `json:"resumed"`
}

// StepStarted comes when a step is about to be applied.
type StepStarted struct{ StepRef }

// StepDetail is a line of text about what the running step does.
type StepDetail struct {
	StepRef
	Text string `json:"text"`
}

// StepProgress counts within the running step, at most ten times a second.
type StepProgress struct {
	StepRef
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"` // 0: unknown
	Unit  string `json:"unit"`  // "bytes" or a plural noun
}

// StepDone comes when a step has succeeded, or was found satisfied.
type StepDone struct {
	StepRef
	Already bool    `json:"already"` // was so before this run
	Took    Elapsed `json:"took_seconds"`
}

// StepFailed comes when applying or verifying a step failed.
type StepFailed struct {
	StepRef
	Error string  `json:"error"`
	Took  Elapsed `json:"took_seconds"`
}

// UndoStarted comes when a step is about to be undone.
type UndoStarted struct{ StepRef }

// UndoDone comes when a step was undone.
type UndoDone struct {
	StepRef
	Leaves string  `json:"leaves,omitempty"` // what it leaves on purpose
	Took   Elapsed `json:"took_seconds"`
}

// UndoFailed comes when a step could not be undone: the run is stuck.
type UndoFailed struct {
	StepRef
	Error string  `json:"error"`
	Took  Elapsed `json:"took_seconds"`
}

// RunEnded is the last event of an invocation.
type RunEnded struct {
	Run    string   `json:"run"` // empty when no run is left behind
	State  State    `json:"state"`
	Error  string   `json:"error,omitempty"`
	Leaves []string `json:"leaves,omitempty"` // what the undo left on purpose
	Took   Elapsed  `json:"took_seconds"`     // of this invocation
}

// EventName returns "plan_shown".
func (PlanShown) EventName() string { return "plan_shown" }

// EventName returns "preflight_started".
func (PreflightStarted) EventName() string { return "preflight_started" }

// EventName returns "preflight_ended".
func (PreflightEnded) EventName() string { return "preflight_ended" }

// EventName returns "run_started".
func (RunStarted) EventName() string { return "run_started" }

// EventName returns "step_started".
func (StepStarted) EventName() string { return "step_started" }

// EventName returns "step_detail".
func (StepDetail) EventName() string { return "step_detail" }

// EventName returns "step_progress".
func (StepProgress) EventName() string { return "step_progress" }

// EventName returns "step_done".
func (StepDone) EventName() string { return "step_done" }

// EventName returns "step_failed".
func (StepFailed) EventName() string { return "step_failed" }

// EventName returns "undo_started".
func (UndoStarted) EventName() string { return "undo_started" }

// EventName returns "undo_done".
func (UndoDone) EventName() string { return "undo_done" }

// EventName returns "undo_failed".
func (UndoFailed) EventName() string { return "undo_failed" }

// EventName returns "run_ended".
func (RunEnded) EventName() string { return "run_ended" }

// Shown returns the event of showing the plan.
func (p Plan) Shown() PlanShown {
	d := p.document()
	return PlanShown{Kind: d.Kind, Target: d.Target, Title: d.Title, Digest: d.digest(), Steps: d.Steps}
}

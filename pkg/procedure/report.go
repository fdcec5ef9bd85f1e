package procedure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// Summary is one run in a list.
type Summary struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Target  string    `json:"target"`
	Title   string    `json:"title"`
	State   State     `json:"state"`
	Step    int       `json:"step"` // at which it stands, from 1
	Of      int       `json:"of"`
	Name    string    `json:"step_name"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`          // last event
	PID     int       `json:"pid,omitempty"`    // of the process at work
	Damage  string    `json:"damage,omitempty"` // why it cannot be trusted
}

// Report is everything about a run that may be shown. Artifacts are named, never
// opened.
type Report struct {
	Summary
	By        By              `json:"by"`
	Digest    string          `json:"digest"`
	Params    json.RawMessage `json:"params"`
	Secrets   []SecretRef     `json:"secrets,omitempty"`
	Steps     []StepReport    `json:"steps"`
	Artifacts []ArtifactInfo  `json:"artifacts"`
	Resumes   []Resumption    `json:"resumes"`
	Stopped   string          `json:"stopped,omitempty"` // why it stopped, if it said so
	// NoReturn names the irreversible step that has begun, if any: the run cannot be
	// undone.
	NoReturn string   `json:"no_return,omitempty"`
	Leaves   []string `json:"leaves,omitempty"` // left on purpose by its undo
	Next     []string `json:"next"`             // commands that make sense now
}

// StepReport is a step of a run.
type StepReport struct {
	StepInfo
	N        int             `json:"n"`
	State    StepState       `json:"state"`
	Attempts int             `json:"attempts"`
	Began    *time.Time      `json:"began,omitempty"` // of the last attempt or undo
	Ended    *time.Time      `json:"ended,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Resumption is a process that went on with the run.
type Resumption struct {
	At   time.Time `json:"at"`
	By   By        `json:"by"`
	Back bool      `json:"back"` // to undo it
}

// sentence is how a step's state is told to people.
func (s StepState) sentence() string {
	switch s {
	case StatePending:
		return "not begun"
	case StateStarted:
		return "begun, outcome unknown"
	case StateSucceeded:
		return "applied"
	case StateAlready:
		return "was so already"
	case StateFailed:
		return "failed, may be applied in part"
	case StateUnchanged:
		return "failed, changed nothing"
	case StateUndoing:
		return "being undone, outcome unknown"
	case StateUndone:
		return "undone"
	case StateUndoFailed:
		return "not undone"
	}
	return string(s)
}

// Describe is how the step's state is told to people.
func (s StepReport) Describe() string { return s.State.sentence() }

// List returns all runs, the oldest first. Runs that cannot be read are in it,
// as damaged.
func (e *Engine) List() ([]Summary, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	sums := make([]Summary, 0, len(ids))
	for _, id := range ids {
		f, s, err := e.read(id)
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if _, gone := os.Lstat(e.path(id)); errors.Is(gone, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			sums = append(sums, damaged(id, f, err))
			continue
		}
		r := report(s)
		e.look(r)
		sums = append(sums, r.Summary)
	}
	slices.SortStableFunc(sums, func(a, b Summary) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return sums, nil
}

func damaged(id string, f *planFile, err error) Summary {
	s := Summary{ID: id, State: Damaged, Damage: err.Error()}
	if f != nil {
		s.Kind, s.Target, s.Title, s.Created, s.Updated, s.Of = f.Plan.Kind, f.Plan.Target, f.Plan.Title, f.Created, f.Created, len(f.Plan.Steps)
	}
	return s
}

func (e *Engine) read(id string) (*planFile, *state, error) {
	f, err := loadPlan(e.path(id))
	if err != nil {
		return nil, nil, err
	}
	s, _, err := loadJournal(e.path(id), f)
	return f, s, err
}

// Show returns one run; id may be a prefix. A damaged run is a report with only
// the summary, and no error.
func (e *Engine) Show(id string) (*Report, error) {
	full, err := e.Match(id)
	if err != nil {
		return nil, err
	}
	f, s, err := e.read(full)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	case err != nil:
		return &Report{Summary: damaged(full, f, err), Next: []string{"tritonops runs forget " + full}}, nil
	}
	r := report(s)
	e.look(r)
	return r, nil
}

// look adds whether a process is at work on the run.
func (e *Engine) look(r *Report) {
	if r.State != Midway && r.State != Undoing {
		return
	}
	if pid, ok := e.alive(r.Target); ok {
		r.State, r.PID, r.Next = Running, pid, []string{}
	}
}

// alive says whether a process holds the target's lock, and which. It takes the
// lock for an instant, shared, and leaves no trace.
func (e *Engine) alive(target string) (int, bool) {
	f, err := os.Open(e.lockPath(target))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, false
	}
	var h durable.Holder
	if b, err := os.ReadFile(f.Name()); err == nil {
		_ = json.Unmarshal(b, &h) // a torn note only makes the answer poorer
	}
	return h.PID, true
}

// report tells what a journal adds up to.
func report(s *state) *Report {
	d, cur := s.plan.Plan, s.current()
	r := &Report{
		Summary: Summary{
			ID: s.plan.ID, Kind: d.Kind, Target: d.Target, Title: d.Title, State: s.state(),
			Step: cur + 1, Of: len(d.Steps), Name: d.Steps[cur].Name, Created: s.plan.Created, Updated: s.last.At,
		},
		By: s.plan.By, Digest: s.plan.Digest, Params: d.Params, Secrets: d.Secrets,
		Artifacts: []ArtifactInfo{}, Resumes: []Resumption{},
	}
	for i, st := range s.steps {
		sr := StepReport{StepInfo: d.Steps[i], N: i + 1, State: st.state, Attempts: st.attempts, Output: st.output, Error: st.err}
		sr.Began, sr.Ended = when(st.began), when(st.ended)
		r.Steps = append(r.Steps, sr)
		if st.state == StateUndone && s.end == Undone && sr.Leaves != "" {
			r.Leaves = append(r.Leaves, sr.Leaves)
		}
	}
	for _, k := range s.artifacts {
		r.Artifacts = append(r.Artifacts, k.ArtifactInfo)
	}
	for _, m := range s.resumes {
		re := Resumption{At: m.At, Back: m.Event == EventUndoing}
		if m.By != nil {
			re.By = *m.By
		}
		r.Resumes = append(r.Resumes, re)
	}
	if s.last.Event == EventInterrupted || s.last.Event == EventStopped {
		r.Stopped = strings.TrimSuffix(fmt.Sprintf("%s at %q: %s", s.last.Event, s.last.Step, s.last.Error), ": ")
	}
	if i := s.noReturn(); i >= 0 {
		r.NoReturn = d.Steps[i].Name
	}
	r.Next = next(s)
	return r
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// next lists the commands that make sense for a run nobody is at.
func next(s *state) []string {
	verbs := []string{}
	switch s.state() {
	case Done:
		if s.noReturn() < 0 && s.changed() {
			verbs = append(verbs, "undo")
		}
		verbs = append(verbs, "forget")
	case Undone, Abandoned:
		verbs = append(verbs, "forget")
	case Stuck:
		verbs = append(verbs, "undo", "abandon")
	case Undoing:
		verbs = append(verbs, "resume", "abandon")
	case Midway:
		verbs = append(verbs, "resume")
		if s.noReturn() < 0 {
			verbs = append(verbs, "undo")
		}
		verbs = append(verbs, "abandon")
	}
	cmds := make([]string, len(verbs))
	for i, v := range verbs {
		cmds[i] = "tritonops runs " + v + " " + s.plan.ID
	}
	return cmds
}

package procedure

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// State is where a run stands.
type State string

// The states of a run. The first four are end states; a stuck run still blocks
// its target until a human undoes it again or abandons it.
const (
	Done      State = "done"
	Undone    State = "undone"
	Stuck     State = "stuck"
	Abandoned State = "abandoned"
	Midway    State = "midway"  // stopped going forward; resumable
	Undoing   State = "undoing" // stopped going back; resumable
	Running   State = "running" // a process has it
	Damaged   State = "damaged" // plan or journal cannot be trusted
)

// StepState is where a step stands.
type StepState string

// The states of a step.
const (
	StatePending    StepState = "pending"
	StateStarted    StepState = "started" // outcome unknown unless a process is at it
	StateSucceeded  StepState = "succeeded"
	StateAlready    StepState = "already" // was so before; not this run's work
	StateFailed     StepState = "failed"  // may have been applied in part
	StateUnchanged  StepState = "failed_unchanged"
	StateUndoing    StepState = "undoing" // outcome of its undo unknown
	StateUndone     StepState = "undone"
	StateUndoFailed StepState = "undo_failed"
)

// touched says whether undoing the run concerns the step.
func (s StepState) touched() bool {
	switch s {
	case StatePending, StateAlready, StateUnchanged, StateUndone:
		return false
	}
	return true
}

// stepFold is what the journal says about one step.
type stepFold struct {
	state    StepState
	attempts int
	output   json.RawMessage
	err      string
	began    time.Time // of the last attempt or undo
	ended    time.Time
}

// state is what a journal adds up to. It is a value: clone copies it.
type state struct {
	plan      *planFile
	next      int // sequence number of the next record
	steps     []stepFold
	backward  bool
	end       State // "" while open
	artifacts []keptArtifact
	began     bool // some step was started
	last      Record
	resumes   []Record
}

type keptArtifact struct {
	ArtifactInfo
	step string
}

func newState(p *planFile) *state {
	s := &state{plan: p, steps: make([]stepFold, len(p.Plan.Steps))}
	for i := range s.steps {
		s.steps[i].state = StatePending
	}
	return s
}

func (s *state) clone() *state {
	c := *s
	c.steps = slices.Clone(s.steps)
	c.artifacts = slices.Clip(s.artifacts)
	c.resumes = slices.Clip(s.resumes)
	return &c
}

// apply moves the state by one record, or says why the record cannot follow.
func (s *state) apply(r Record) error {
	if r.Seq != s.next {
		return fmt.Errorf("sequence number %d, want %d", r.Seq, s.next)
	}
	if (r.Event == EventCreated) != (s.next == 0) {
		return fmt.Errorf("event %q at sequence number %d", r.Event, r.Seq)
	}
	var err error
	switch r.Event {
	case EventCreated:
		err = s.header(r)
	case EventStarted, EventSucceeded, EventFailed, EventUndoStarted, EventUndone, EventUndoFailed:
		err = s.stepEvent(r)
	case EventArtifact:
		err = s.artifact(r)
	case EventResumed, EventUndoing:
		err = s.direction(r)
	case EventInterrupted, EventStopped:
		err = s.note(r)
	case EventEnded:
		err = s.ended(r)
	default:
		err = fmt.Errorf("unknown event %q", r.Event)
	}
	if err != nil {
		return err
	}
	s.next++
	s.last = r
	return nil
}

func (s *state) header(r Record) error {
	switch {
	case r.Format != journalFormat:
		return fmt.Errorf("format %q, want %q", r.Format, journalFormat)
	case r.Version != formatVersion:
		return fmt.Errorf("format version %d", r.Version)
	case r.Run != s.plan.ID:
		return fmt.Errorf("journal of run %q in the directory of run %q", r.Run, s.plan.ID)
	case r.Plan != s.plan.Digest:
		return fmt.Errorf("journal of another plan: its digest is %s, the plan's is %s", r.Plan, s.plan.Digest)
	}
	return nil
}

// stepEvent checks the order of steps and the transition of the one concerned.
func (s *state) stepEvent(r Record) error {
	i := s.plan.Plan.index(r.Step)
	if i < 0 {
		return fmt.Errorf("event %q of unknown step %q", r.Event, r.Step)
	}
	if s.end != "" {
		return fmt.Errorf("event %q of step %q after the end", r.Event, r.Step)
	}
	st := &s.steps[i]
	to, ok := s.transition(st.state, r)
	if !ok {
		return fmt.Errorf("step %q: event %q while %s, going %s", r.Step, r.Event, st.state, s.heading())
	}
	if err := s.order(i, r.Event); err != nil {
		return err
	}
	st.state = to
	switch r.Event {
	case EventStarted:
		st.attempts++
		s.began = true
		st.began, st.ended, st.err = r.At, time.Time{}, ""
	case EventUndoStarted:
		st.began, st.ended, st.err = r.At, time.Time{}, ""
	case EventSucceeded:
		st.output, st.ended = r.Output, r.At
	default:
		st.ended, st.err = r.At, r.Error
	}
	return nil
}

// transition is the whole table of a step's moves.
func (s *state) transition(from StepState, r Record) (StepState, bool) {
	switch r.Event {
	case EventStarted:
		return StateStarted, !s.backward && (from == StatePending || from == StateFailed || from == StateUnchanged)
	case EventSucceeded:
		if r.Already {
			return StateAlready, !s.backward && (from == StatePending || from == StateUnchanged)
		}
		return StateSucceeded, from == StateStarted
	case EventFailed:
		if r.Unchanged {
			return StateUnchanged, from == StateStarted
		}
		return StateFailed, from == StateStarted
	case EventUndoStarted:
		return StateUndoing, s.backward && (from == StateSucceeded || from == StateFailed || from == StateUndoFailed)
	case EventUndone:
		return StateUndone, s.backward && from == StateUndoing
	case EventUndoFailed:
		return StateUndoFailed, s.backward && from == StateUndoing
	}
	return from, false
}

// order holds steps to one at a time: forward behind finished ones, backward
// before untouched ones.
func (s *state) order(i int, ev EventName) error {
	switch ev {
	case EventStarted, EventSucceeded:
		for k := range i {
			if st := s.steps[k].state; !s.backward && st != StateSucceeded && st != StateAlready {
				return fmt.Errorf("step %q: event %q while the earlier step %q is %s", s.plan.Plan.Steps[i].Name, ev, s.plan.Plan.Steps[k].Name, st)
			}
		}
	case EventUndoStarted:
		if s.plan.Plan.Steps[i].Irreversible {
			return fmt.Errorf("step %q: undo of an irreversible step", s.plan.Plan.Steps[i].Name)
		}
		for k := i + 1; k < len(s.steps); k++ {
			if st := s.steps[k].state; st.touched() {
				return fmt.Errorf("step %q: undo while the later step %q is %s", s.plan.Plan.Steps[i].Name, s.plan.Plan.Steps[k].Name, st)
			}
		}
	}
	return nil
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *state) artifact(r Record) error {
	i := s.plan.Plan.index(r.Step)
	switch {
	case s.end != "" || i < 0 || s.steps[i].state != StateStarted:
		return fmt.Errorf("artifact of step %q, which is not being applied", r.Step)
	case r.Artifact == nil || checkArtifactName(r.Artifact.Name) != nil || !hexDigest.MatchString(r.Artifact.SHA256) || r.Artifact.Size < 0:
		return fmt.Errorf("artifact of step %q without a usable name, digest or size", r.Step)
	case s.kept(r.Artifact.Name) != nil:
		return fmt.Errorf("artifact %q kept twice", r.Artifact.Name)
	}
	s.artifacts = append(s.artifacts, keptArtifact{*r.Artifact, r.Step})
	return nil
}

func (s *state) kept(name string) *keptArtifact {
	for i := range s.artifacts {
		if s.artifacts[i].Name == name {
			return &s.artifacts[i]
		}
	}
	return nil
}

// direction lets an open run go on, and a done or stuck one go back.
func (s *state) direction(r Record) error {
	switch {
	case r.Event == EventResumed && s.end == "":
	case r.Event == EventUndoing && s.noReturn() >= 0:
		return fmt.Errorf("turned back behind the irreversible step %q", s.plan.Plan.Steps[s.noReturn()].Name)
	case r.Event == EventUndoing && (s.end == "" || s.end == Done || s.end == Stuck):
		s.backward, s.end = true, ""
	default:
		return fmt.Errorf("event %q of a run that is %s", r.Event, s.end)
	}
	s.resumes = append(s.resumes, r)
	return nil
}

func (s *state) note(r Record) error {
	if s.end != "" {
		return fmt.Errorf("event %q after the end", r.Event)
	}
	if r.Step != "" && s.plan.Plan.index(r.Step) < 0 {
		return fmt.Errorf("event %q of unknown step %q", r.Event, r.Step)
	}
	return nil
}

// ended checks that the steps bear the end out.
func (s *state) ended(r Record) error {
	if s.end != "" && !(s.end == Stuck && r.End == Abandoned) {
		return fmt.Errorf("end %q of a run that is %s", r.End, s.end)
	}
	ok := false
	switch r.End {
	case Done:
		ok = !s.backward && s.all(func(st StepState) bool { return st == StateSucceeded || st == StateAlready })
	case Undone:
		ok = s.all(func(st StepState) bool { return !st.touched() })
	case Stuck:
		ok = s.backward && !s.all(func(st StepState) bool { return st != StateUndoFailed })
	case Abandoned:
		ok = true
	}
	if !ok {
		return fmt.Errorf("end %q does not follow from the steps, going %s", r.End, s.heading())
	}
	s.end = r.End
	return nil
}

func (s *state) all(f func(StepState) bool) bool {
	for _, st := range s.steps {
		if !f(st.state) {
			return false
		}
	}
	return true
}

func (s *state) heading() string {
	if s.backward {
		return "back"
	}
	return "forward"
}

// state names where the run stands, as far as the journal knows.
func (s *state) state() State {
	switch {
	case s.end != "":
		return s.end
	case s.backward:
		return Undoing
	}
	return Midway
}

// blocks says whether the run keeps others from its target.
func (s *state) blocks() bool { return s.end == "" || s.end == Stuck }

// current is the index of the step at which the run stands.
func (s *state) current() int {
	if s.backward {
		for i := len(s.steps) - 1; i >= 0; i-- {
			if s.steps[i].state.touched() {
				return i
			}
		}
		return 0
	}
	for i, st := range s.steps {
		if st.state != StateSucceeded && st.state != StateAlready {
			return i
		}
	}
	return len(s.steps) - 1
}

// noReturn is the first irreversible step that may have had an effect, or -1.
func (s *state) noReturn() int {
	for i, st := range s.steps {
		if s.plan.Plan.Steps[i].Irreversible && st.state.touched() {
			return i
		}
	}
	return -1
}

// changed says whether this run may have changed anything.
func (s *state) changed() bool { return !s.all(func(st StepState) bool { return !st.touched() }) }

package procedure

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNoOutput is returned by [Run.Output] for a step that has not succeeded in
// this run: its undo may be called after a failure, its preflight comes first.
var ErrNoOutput = errors.New("no output")

// Run is what the functions of a step get: the outputs of earlier steps,
// secrets, artifacts, and ways to say what they are doing. Its methods are safe
// for concurrent use.
type Run struct {
	id      string // "" during the preflight of a run that does not exist yet
	dir     string
	doc     document
	secrets secrets
	emit    func(Event)
	now     func() time.Time

	mu      sync.Mutex
	j       *journal // nil before the run has begun
	step    int      // the step at work, -1 for none
	pending json.RawMessage
	ready   bool // pending is the output of the step at work
}

// ID returns the run's id, "" during the preflight of a new run.
func (r *Run) ID() string { return r.id }

// Target returns what the run changes.
func (r *Run) Target() string { return r.doc.Target }

// Output decodes what the named step returned into v. ErrNoOutput if it has not
// succeeded, or returned nothing.
func (r *Run) Output(step string, v any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.doc.index(step)
	if i < 0 {
		return fmt.Errorf("step %q: not in this plan", step)
	}
	raw := r.pending
	if i != r.step || !r.ready {
		raw = nil
		if r.j != nil {
			raw = r.j.steps[i].output
		}
	}
	if len(raw) == 0 {
		return fmt.Errorf("step %q: %w", step, ErrNoOutput)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("step %q: output: %w", step, err)
	}
	return nil
}

// Secret returns the value of a secret the plan names.
func (r *Run) Secret(name string) (string, error) {
	v, ok := r.secrets.values[name]
	if !ok {
		return "", fmt.Errorf("secret %q: not in this plan", name)
	}
	return v, nil
}

// Detail tells the operator what the step is doing right now.
func (r *Run) Detail(format string, args ...any) {
	ref, ok := r.ref()
	if !ok {
		return
	}
	r.emit(StepDetail{StepRef: ref, Text: r.secrets.text(fmt.Sprintf(format, args...))})
}

func (r *Run) ref() (StepRef, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.step < 0 {
		return StepRef{}, false
	}
	return r.refOf(r.step), true
}

func (r *Run) refOf(i int) StepRef {
	s := r.doc.Steps[i]
	return StepRef{Run: r.id, N: i + 1, Of: len(r.doc.Steps), Step: s.Name, Line: s.Line}
}

// enter makes step i the one at work; -1 for none.
func (r *Run) enter(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step, r.pending, r.ready = i, nil, false
}

// produced keeps the output of the step at work for its Verify.
func (r *Run) produced(raw json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending, r.ready = raw, true
}

// write appends to the journal under the lock that guards its readers.
func (r *Run) write(rec Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.j.write(rec)
}

// Progress returns a meter for the step at work. It has the methods that long
// work reports through: Phase, Add and Note.
func (r *Run) Progress() *Meter { return &Meter{run: r} }

// Meter turns counts into [StepProgress] events. It is safe for concurrent use.
type Meter struct {
	run *Run

	mu          sync.Mutex
	phase, unit string
	done, total int64
	shown       time.Time
}

// meterEvery is the least time between two progress events.
const meterEvery = 100 * time.Millisecond

// Phase begins a new count of total units, 0 if unknown. unit is "bytes" or a
// plural noun.
func (m *Meter) Phase(name string, total int64, unit string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase, m.unit, m.done, m.total = name, unit, 0, total
	m.show()
}

// Add counts n units.
func (m *Meter) Add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.done == m.total || m.run.now().Sub(m.shown) >= meterEvery {
		m.show()
	}
}

// Note tells the operator something about the step.
func (m *Meter) Note(text string) { m.run.Detail("%s", text) }

func (m *Meter) show() {
	m.shown = m.run.now()
	if ref, ok := m.run.ref(); ok {
		m.run.emit(StepProgress{StepRef: ref, Phase: m.phase, Done: m.done, Total: m.total, Unit: m.unit})
	}
}

package procedure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Engine runs procedures and keeps their journals below Dir. One engine may be
// used by several goroutines, as long as the fields stay as they are.
type Engine struct {
	Dir      string           // where runs live; made with mode 0700
	Now      func() time.Time // nil: the system clock
	Observer Observer         // nil: nobody looks
	Version  string           // of this program, for the journal
	By       string           // user and host, for the journal
	Secrets  Resolver         // nil: plans with secrets are refused
	Inject   Inject           // nil outside tests

	mu    sync.Mutex
	known map[SecretRef]string // resolved secrets
	obs   sync.Mutex           // serialises the observer
}

// Inject is called by the engine at each [Point] of a step, for tests. An error
// before or after Apply or Undo is taken for theirs; a crash is a panic, or the
// end of the process.
type Inject func(p Point, step string) error

// Point is a moment at which an engine can be made to fail.
type Point string

// The points, in the order in which a step passes them. At BeforeApply and
// BeforeUndo the start is in the journal already; at AfterApply and AfterUndo
// the effect is there and the journal does not know.
const (
	BeforeApply      Point = "before apply"
	AfterApply       Point = "after apply, before journal"
	AfterJournal     Point = "after journal"
	BeforeUndo       Point = "before undo"
	AfterUndo        Point = "after undo, before journal"
	AfterUndoJournal Point = "after undo journal"
)

func (e *Engine) inject(p Point, step string) error {
	if e.Inject == nil {
		return nil
	}
	return e.Inject(p, step)
}

// Result is how an invocation ended.
type Result struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	Target  string   `json:"target"`
	State   State    `json:"state"`
	Changed bool     `json:"changed"` // this run changed something that is still so
	Leaves  []string `json:"leaves,omitempty"`
	Took    Elapsed  `json:"took_seconds"` // of this invocation
}

// Preflight checks a plan without beginning it and without needing an approval:
// for a dry run, and to refuse before the question instead of after it.
func (e *Engine) Preflight(ctx context.Context, p Plan) error {
	if err := p.validate(); err != nil {
		return err
	}
	if _, err := e.unblocked(p.Target, false); err != nil {
		return err
	}
	return e.preflightNew(ctx, p, nil)
}

// preflightNew runs all preflights of a plan that has no run yet.
func (e *Engine) preflightNew(ctx context.Context, p Plan, sec *secrets) error {
	d := p.document()
	if sec == nil {
		s, err := e.resolve(ctx, d)
		if err != nil {
			return err
		}
		sec = &s
	}
	r := &Run{doc: d, secrets: *sec, emit: e.emit, now: e.now, step: -1}
	return e.preflight(ctx, p, r, func(int) bool { return true })
}

// preflight runs the preflights of the chosen steps and reports all refusals.
func (e *Engine) preflight(ctx context.Context, p Plan, r *Run, want func(i int) bool) error {
	var problems []error
	asked := false
	defer func() {
		if asked {
			r.enter(-1)
			e.emit(PreflightEnded{Refusals: len(problems)})
		}
	}()
	for i, s := range p.Steps {
		if s.Preflight == nil || !want(i) {
			continue
		}
		if err := interrupted(ctx); err != nil {
			return err
		}
		r.enter(i)
		asked = true
		e.emit(PreflightStarted{r.refOf(i)})
		if err := s.Preflight(ctx, r); err != nil {
			if err := interrupted(ctx); err != nil {
				return err
			}
			problems = append(problems, fmt.Errorf("step %s: %w", r.doc.position(i), err))
		}
	}
	return preflightError(r, problems)
}

// preflightError has the code of its causes if they agree on one that says
// more than "refused".
func preflightError(r *Run, problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	code := keptCode(problems[0])
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.Error()
		if keptCode(p) != code {
			code = fail.Failed
		}
	}
	if code == fail.Failed {
		code = fail.Refused
	}
	text := r.secrets.text("preflight: " + strings.Join(texts, "; "))
	return fail.As(code, &opError{text: text, err: errors.Join(problems...)})
}

// opError has a text of its own, without secrets, over its cause.
type opError struct {
	text string
	err  error
}

func (e *opError) Error() string { return e.text }
func (e *opError) Unwrap() error { return e.err }

// keptCode is the exit code of a cause that says more than "failed".
func keptCode(err error) fail.Code {
	switch c := fail.CodeOf(err); c {
	case fail.Unreachable, fail.Held, fail.Refused:
		return c
	}
	return fail.Failed
}

// Start begins a run of the plan and carries it through. The approval must be
// for exactly this plan. The result is nil if no run was left behind.
//
// The error has code Refused or Held if nothing began, Interrupted if ctx was
// cancelled before anything began, Failed if the first change failed and left
// nothing, Midway if the run can be resumed.
func (e *Engine) Start(ctx context.Context, p Plan, a Approval) (*Result, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	d := p.document()
	if a.digest != d.digest() {
		return nil, refused("plan %q of %s: not the plan that was approved", p.Kind, p.Target)
	}
	if err := interrupted(ctx); err != nil {
		return nil, err
	}
	lock, err := e.lock(ctx, d)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if err := e.clean(d.Target); err != nil {
		return nil, err
	}
	newest, err := e.unblocked(d.Target, true)
	if err != nil {
		return nil, err
	}
	sec, err := e.resolve(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := e.preflightNew(ctx, p, &sec); err != nil {
		return nil, err
	}
	if err := interrupted(ctx); err != nil {
		return nil, err
	}
	f, err := e.create(d, newest)
	if err != nil {
		return nil, fmt.Errorf("%s: run not recorded: %w", e.Dir, err)
	}
	x, err := e.open(p, f, sec)
	if err != nil {
		return nil, err
	}
	defer x.close()
	return x.conduct(ctx, false)
}

// open opens the journal of a run. The caller holds the target's lock.
func (e *Engine) open(p Plan, f *planFile, sec secrets) (*execution, error) {
	j, err := e.openJournal(f)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", f.ID, err)
	}
	r := &Run{id: f.ID, dir: e.path(f.ID), doc: f.Plan, secrets: sec, emit: e.emit, now: e.now, j: j, step: -1}
	return &execution{e: e, plan: p, file: f, run: r}, nil
}

// lock keeps a second run from the target for as long as this process has it.
// It waits a moment, since looking whether a run is alive takes the lock too.
func (e *Engine) lock(ctx context.Context, d document) (*durable.Lock, error) {
	path := e.lockPath(d.Target)
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		l, err := durable.Acquire(path, d.Kind)
		var held *durable.HeldError
		if err == nil || !errors.As(err, &held) {
			return l, err
		}
		if try == lockTries {
			return nil, e.heldError(d.Target, held)
		}
		select {
		case <-ctx.Done():
			return nil, interrupted(ctx)
		case <-time.After(lockPause):
		}
	}
}

const (
	lockTries = 5
	lockPause = 20 * time.Millisecond
)

func (e *Engine) heldError(target string, held *durable.HeldError) error {
	err := fail.New(fail.Held, "%s: another run is at work: %w", target, held)
	sums, _ := e.List() // the error above stands with or without the run's id
	for _, s := range sums {
		if s.Target == target && s.State == Running {
			err = fail.Hint(err, "tritonops runs show %s", s.ID)
		}
	}
	return err
}

// unblocked refuses while an unfinished run has the target; a run that cannot be
// read might be one. locked says that the caller has the target's lock, so that
// no other process is at work. The newest run of the target tells when it began.
func (e *Engine) unblocked(target string, locked bool) (newest time.Time, err error) {
	ids, err := e.ids()
	if err != nil {
		return newest, err
	}
	for _, id := range ids {
		f, err := loadPlan(e.path(id))
		var s *state
		if err == nil && f.Plan.Target != target {
			continue
		}
		if err == nil {
			s, _, err = loadJournal(e.path(id), f)
		}
		switch _, gone := os.Lstat(e.path(id)); {
		case err != nil && errors.Is(gone, os.ErrNotExist):
			continue // forgotten in the meantime
		case err != nil:
			return newest, blocked(fmt.Errorf("run %s: might be unfinished on this target: %w", id, err), id)
		case s.blocks():
			return newest, e.blockedBy(s, locked)
		case f.Created.After(newest):
			newest = f.Created
		}
	}
	return newest, nil
}

func blocked(err error, id string) error {
	return fail.Hint(fail.As(fail.Refused, err), "tritonops runs show %s", id)
}

func (e *Engine) blockedBy(s *state, locked bool) error {
	id := s.plan.ID
	if pid, ok := e.alive(s.plan.Plan.Target); ok && !locked {
		return fail.Hint(fail.New(fail.Held, "%s: run %s is at work (pid %d)", s.plan.Plan.Target, id, pid), "tritonops runs show %s", id)
	}
	err := refused("%s: run %s is %s at step %s", s.plan.Plan.Target, id, s.state(), s.plan.Plan.position(s.current()))
	if s.end == Stuck {
		err = fail.Hint(err, "tritonops runs show %s", id)
	} else {
		err = fail.Hint(err, "tritonops runs resume %s", id)
	}
	err = fail.Hint(err, "tritonops runs undo %s", id)
	return fail.Hint(err, "tritonops runs abandon %s", id)
}

func (e *Engine) now() time.Time {
	if e.Now == nil {
		return time.Now().UTC()
	}
	return e.Now().UTC()
}

func (e *Engine) by() By { return By{Who: e.By, PID: os.Getpid(), Tool: e.Version} }

// emit tells the observer, one event at a time.
func (e *Engine) emit(ev Event) {
	if e.Observer == nil {
		return
	}
	e.obs.Lock()
	defer e.obs.Unlock()
	e.Observer.Observe(ev)
}

func (e *Engine) path(id string) string { return filepath.Join(e.Dir, id) }

func (e *Engine) lockPath(target string) string {
	return filepath.Join(e.Dir, ".locks", targetHash(target)+".lock")
}

func targetHash(target string) string {
	sum := sha256.Sum256([]byte(target))
	return hex.EncodeToString(sum[:8])
}

// freshID returns an id that no run has.
func (e *Engine) freshID() (string, error) {
	for {
		var b [3]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		id := hex.EncodeToString(b[:])
		if _, err := os.Lstat(e.path(id)); errors.Is(err, os.ErrNotExist) {
			return id, nil
		} else if err != nil {
			return "", err
		}
	}
}

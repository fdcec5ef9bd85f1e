// Package procedure runs changes that consist of more than one step, so that
// they can be shown before they begin, followed while they run, resumed after
// any kind of end, and undone.
//
// A [Plan] is a list of named [Step]s. [Confirm] shows it and returns an
// [Approval]; [Engine.Start] takes both, keeps a journal in a directory of its
// own and ends in one of the states done, undone or stuck, or midway, from where
// [Engine.Resume] and [Engine.Undo] go on. The journal is written and synced
// before and after every effect; its format is in docs/journal.md.
//
// The engine knows no service. Steps carry what they need in their closures; a
// later process gets them back through a [Rebuild] function, from the kind and
// the parameters of the recorded plan.
package procedure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Step is one change. Name identifies it in the journal and never changes
// meaning; Line tells the operator what it will do. Both are pure functions of
// the plan's parameters.
//
// Apply and Undo must be idempotent: after a crash they are called again on a
// world in which they may have been carried out wholly, partly or not at all.
// Undo is also called for a step whose Apply reported an error. All functions
// honour ctx. Satisfied, Preflight and Verify only read; they and Undo may be
// nil, see each.
type Step struct {
	Name string
	Line string
	// Version is raised when the step's meaning changes: a run recorded with another
	// version is not resumed.
	Version int
	// Irreversible marks a step without Undo. Once it has begun, the run only goes
	// forward. Exactly one of Irreversible and Undo is set; a step that leaves
	// nothing behind uses [NothingToUndo].
	Irreversible bool
	// Leaves names what Undo leaves in place on purpose, "" for nothing.
	Leaves string

	// Satisfied says whether the state Apply would bring about is there already, and
	// returns what Apply would have returned. It is asked right before the step, and
	// first of all when a former process began the step and left no outcome: an
	// answer that was lost is recognised here. A step found satisfied before it began
	// is not this run's work and is never undone. Nil: never satisfied.
	Satisfied func(ctx context.Context, r *Run) (ok bool, output any, err error)
	// Preflight refuses with the reason when the step could not succeed. It runs for
	// all steps before the first one begins, so outputs of earlier steps may be
	// missing; and on resume for those that have not begun.
	Preflight func(ctx context.Context, r *Run) error
	// Apply makes the change. Its output is stored as JSON (1 MiB at most), is never
	// secret, and is read by later steps, by Verify and by Undo with [Run.Output]. An
	// error wrapped with [Unchanged] promises that nothing was changed.
	Apply func(ctx context.Context, r *Run) (output any, err error)
	// Verify proves that the change is there. The step succeeds only then.
	Verify func(ctx context.Context, r *Run) error
	// Undo takes back what Apply made, and only that.
	Undo func(ctx context.Context, r *Run) error
	// UndoCopes says that Undo takes back an Apply that was cut off anywhere. Such a
	// step is not finished before it is undone: nobody waits for a long download that
	// is going to be thrown away.
	UndoCopes bool
}

// NothingToUndo is the Undo of a step that leaves nothing behind.
func NothingToUndo(context.Context, *Run) error { return nil }

// Plan is what an operator is asked about. Everything in it but the steps'
// functions is recorded, so Params and texts must not hold secrets: see
// [SecretRef].
type Plan struct {
	Kind   string // which Rebuild makes it again, such as "imgapi restore"
	Target string // what is changed; one run at a time per target
	Title  string // one line, what the whole does
	Params json.RawMessage
	// Secrets are asked for before the preflight, and again by every resume.
	Secrets []SecretRef
	// TypeName, when set, is what an operator must type to approve a destructive plan.
	TypeName string
	Steps    []Step
}

// Rebuild makes a plan again from its recorded kind's parameters. The result
// must have the same target, secrets and steps; texts may differ.
type Rebuild func(ctx context.Context, params json.RawMessage) (Plan, error)

// Unchanged marks an error of Apply that left the world exactly as it was. A nil
// err stays nil.
func Unchanged(err error) error {
	if err == nil {
		return nil
	}
	return &unchangedError{err}
}

type unchangedError struct{ err error }

func (e *unchangedError) Error() string { return e.err.Error() }
func (e *unchangedError) Unwrap() error { return e.err }

// maxSteps and maxText bound a plan, recorded or new.
const (
	maxSteps = 1000
	maxText  = 4096
)

// validate refuses a plan that could not be run, shown or recorded. Such a plan
// is a programming error of its kind.
func (p Plan) validate() error {
	doc := p.document()
	if err := doc.check(); err != nil {
		return fmt.Errorf("plan %q: %w", p.Kind, err)
	}
	for _, s := range p.Steps {
		switch {
		case s.Apply == nil:
			return fmt.Errorf("plan %q: step %q has no apply", p.Kind, s.Name)
		case s.Undo == nil && !s.Irreversible:
			return fmt.Errorf("plan %q: step %q has no undo and is not marked irreversible", p.Kind, s.Name)
		case s.Undo != nil && s.Irreversible:
			return fmt.Errorf("plan %q: step %q is marked irreversible and has an undo", p.Kind, s.Name)
		}
	}
	return nil
}

// Digest identifies what was shown: kind, target, texts, parameters, secret
// references and steps, as "sha256:" and 64 hex digits.
func (p Plan) Digest() string { return p.document().digest() }

// document is the recorded form of the plan.
func (p Plan) document() document {
	d := document{
		Kind: p.Kind, Target: p.Target, Title: p.Title, TypeName: p.TypeName,
		Params: p.Params, Secrets: p.Secrets,
	}
	if len(d.Params) == 0 {
		d.Params = json.RawMessage("null")
	}
	for _, s := range p.Steps {
		d.Steps = append(d.Steps, StepInfo{Name: s.Name, Line: s.Line, Version: s.Version, Irreversible: s.Irreversible, Leaves: s.Leaves})
	}
	return d
}

// adopt gives a rebuilt plan the texts that were shown when it was approved, so
// that a newer program with other wording can finish it. Whatever else differs
// shows in the digest.
func (p Plan) adopt(d document) Plan {
	p.Title, p.TypeName = d.Title, d.TypeName
	p.Steps = append([]Step(nil), p.Steps...)
	for i := range p.Steps {
		if i < len(d.Steps) {
			p.Steps[i].Line, p.Steps[i].Leaves = d.Steps[i].Line, d.Steps[i].Leaves
		}
	}
	p.Secrets = append([]SecretRef(nil), p.Secrets...)
	for i := range p.Secrets {
		if i < len(d.Secrets) {
			p.Secrets[i].Prompt, p.Secrets[i].Flag = d.Secrets[i].Prompt, d.Secrets[i].Flag
		}
	}
	return p
}

// StepInfo is a step as it is shown and recorded.
type StepInfo struct {
	Name         string `json:"name"`
	Line         string `json:"line"`
	Version      int    `json:"version"`
	Irreversible bool   `json:"irreversible"`
	Leaves       string `json:"leaves,omitempty"`
}

// document is what the digest covers and plan.json holds.
type document struct {
	Kind     string          `json:"kind"`
	Target   string          `json:"target"`
	Title    string          `json:"title"`
	TypeName string          `json:"type_name,omitempty"`
	Params   json.RawMessage `json:"params"`
	Secrets  []SecretRef     `json:"secrets,omitempty"`
	Steps    []StepInfo      `json:"steps"`
}

// check holds for new and for recorded plans alike.
func (d document) check() error {
	for _, f := range []struct{ name, text string }{{"kind", d.Kind}, {"target", d.Target}, {"title", d.Title}} {
		if f.text == "" {
			return fmt.Errorf("%s is empty", f.name)
		}
		if err := checkText(f.name, f.text); err != nil {
			return err
		}
	}
	if err := checkText("type name", d.TypeName); err != nil {
		return err
	}
	if !json.Valid(d.Params) {
		return fmt.Errorf("params are not JSON")
	}
	if len(d.Steps) == 0 || len(d.Steps) > maxSteps {
		return fmt.Errorf("%d steps, want 1 to %d", len(d.Steps), maxSteps)
	}
	seen := make(map[string]bool, len(d.Steps))
	for i, s := range d.Steps {
		if s.Name == "" || s.Line == "" || seen[s.Name] {
			return fmt.Errorf("step %d %q: the name must be unique, name and line not empty", i+1, s.Name)
		}
		seen[s.Name] = true
		for _, t := range []string{s.Name, s.Line, s.Leaves} {
			if err := checkText(fmt.Sprintf("step %d", i+1), t); err != nil {
				return err
			}
		}
	}
	return checkSecrets(d.Secrets)
}

func checkText(what, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%s: text of %d bytes", what, len(s))
	}
	if strings.ContainsFunc(s, unicode.IsControl) || strings.ToValidUTF8(s, "") != s {
		return fmt.Errorf("%s: %q has control characters", what, s)
	}
	return nil
}

// digest hashes the document in canonical form: compact, object keys of the
// parameters sorted.
func (d document) digest() string {
	d.Params = canonical(d.Params)
	b, err := json.Marshal(d)
	if err != nil { // only invalid params can do this, and check refuses them
		return "sha256:invalid"
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func canonical(raw json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return raw
	}
	b, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return b
}

// position is how a step is named in errors: 5/9 "name".
func (d document) position(i int) string {
	return fmt.Sprintf("%d/%d %q", i+1, len(d.Steps), d.Steps[i].Name)
}

func (d document) index(step string) int {
	for i, s := range d.Steps {
		if s.Name == step {
			return i
		}
	}
	return -1
}

// refused is a precondition that does not hold: exit 4, nothing changed.
func refused(format string, args ...any) error { return fail.New(fail.Refused, format, args...) }

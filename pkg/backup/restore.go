package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// RestoreKind is the kind of a restore's plan.
const RestoreKind = "imgapi restore"

// RestoreParams is what a restore was asked to do, as its plan records it.
type RestoreParams struct {
	ID         string `json:"id"`              // names staging, aside and the reader mark
	Source     string `json:"source"`          // the store, for people
	Generation uint64 `json:"generation"`      // 0: the store has no log, its mirror is taken as it is
	Empty      bool   `json:"empty,omitempty"` // neither log nor mirror: nothing to bring back
	OnlyHere   int    `json:"only_here"`       // local manifests the generation does not have: they go aside
	Latest     bool   `json:"latest"`          // nobody named a moment: a newer generation may take its place
	Image      string `json:"image,omitempty"`
	Into       string `json:"into,omitempty"` // absolute; "" restores in place
	WithKeys   bool   `json:"with_keys,omitempty"`
	SkipLost   bool   `json:"skip_lost,omitempty"`
	Settings   any    `json:"settings,omitempty"` // the caller's: how to reach store and server again
}

// Server is the stock server of the instance, stopped around the swap: it reads
// manifests only when it starts.
type Server interface {
	Stop(ctx context.Context) error  // idempotent
	Start(ctx context.Context) error // idempotent; returns when it answers
	// Listed returns the uuids it lists to anybody.
	Listed(ctx context.Context) (map[string]bool, error)
}

// Restorer gets an instance's data back from a store.
type Restorer struct {
	Store    store.Store
	Instance *instance.Instance
	Server   Server // nil: nothing to restart
	StateDir string
	Writer   Writer
	Epoch    uint64
	Params   RestoreParams
	Now      func() time.Time

	progress Progress // of the step at work
	at       Position // what this process downloaded
}

// Restored is what a restore brought back; the download step's output.
type Restored struct {
	Generation uint64  `json:"generation"`
	Manifests  int     `json:"manifests"`
	Files      int     `json:"files"`
	Bytes      int64   `json:"bytes"`
	Reused     int     `json:"reused"` // files the disk still had
	Faults     []Fault `json:"faults,omitempty"`
}

// Resolve fills in Generation, Latest and Empty from what an operator asked for:
// a number, a moment, or neither for the newest.
func (p *RestoreParams) Resolve(ctx context.Context, st store.Store, seq uint64, at time.Time) error {
	log, err := OpenLog(ctx, st, nil)
	if err != nil {
		return err
	}
	p.Latest = seq == 0 && at.IsZero()
	switch {
	case log.Empty() && p.Latest:
		p.Empty, err = emptyMirror(ctx, st)
		return err
	case seq > log.HeadSeq() || log.Empty():
		return noGeneration(st, seq)
	case p.Latest:
		p.Generation = log.HeadSeq()
		return nil
	case seq > 0:
		p.Generation = seq
		return nil
	}
	if p.Generation, err = log.At(ctx, at); err == nil && p.Generation == 0 {
		err = fail.Hint(fail.New(fail.Failed, "%s: no generation is as old as %s", st, at.UTC().Format(time.RFC3339)), "tritonops imgapi backup list")
	}
	return err
}

func emptyMirror(ctx context.Context, st store.Store) (bool, error) {
	for _, d := range []string{"manifests", "images"} {
		for _, err := range st.List(ctx, mirrorPath(d)) {
			return false, err
		}
	}
	return true, nil
}

func (r *Restorer) dir() string     { return filepath.Join(r.StateDir, "restore", r.Params.ID) }
func (r *Restorer) stage() string   { return filepath.Join(r.dir(), "stage") }
func (r *Restorer) aside() string   { return filepath.Join(r.dir(), "replaced") }
func (r *Restorer) inPlace() bool   { return r.Params.Into == "" }
func (r *Restorer) wholeTree() bool { return r.Params.Image == "" }
func (r *Restorer) target() string {
	if r.inPlace() {
		return r.Instance.DataDir()
	}
	return r.Params.Into
}

// Plan lists the steps. The order is the server's: image files before the
// manifests that name them, and the server reads manifests only when it starts.
func (r *Restorer) Plan() (procedure.Plan, error) {
	r.progress = noProgress{}
	if r.Now == nil {
		r.Now = time.Now
	}
	raw, err := json.Marshal(r.Params)
	if err != nil {
		return procedure.Plan{}, err
	}
	p := procedure.Plan{Kind: RestoreKind, Target: r.target(), Params: raw, Title: r.title()}
	switch {
	case r.Params.WithKeys && r.Params.Generation == 0:
		return p, fail.New(fail.Refused, "%s: has no auth keys: taking it --with-keys would take away those that are here", r.Params.Source)
	case r.Params.Empty && r.inPlace():
		p.Steps = []procedure.Step{r.markerStep()}
	case r.Params.Empty:
		return p, fail.New(fail.Failed, "%s: there is nothing to restore", r.Params.Source)
	case !r.inPlace():
		p.Steps = []procedure.Step{r.beginStep(), r.downloadStep(), r.publishStep(), r.endStep()}
	default:
		p.Steps = r.inPlaceSteps()
	}
	return p, nil
}

func (r *Restorer) inPlaceSteps() []procedure.Step {
	steps := []procedure.Step{r.beginStep(), r.downloadStep()}
	if r.Server != nil {
		steps = append(steps, r.stopStep())
	}
	for _, part := range r.parts() {
		steps = append(steps, r.swapStep(part))
	}
	if r.Server != nil { // before the store is needed again: it may be away
		steps = append(steps, r.startStep())
	}
	steps = append(steps, r.recordStep(), r.markerStep())
	if r.Server != nil {
		steps = append(steps, r.compareStep())
	}
	return append(steps, r.endStep())
}

func (r *Restorer) title() string {
	if r.Params.Empty {
		return fmt.Sprintf("first restore from %s: there is nothing to restore; mark %s so that backups may run", r.Params.Source, r.target())
	}
	t := fmt.Sprintf("restore %s from %s into %s", r.what(), r.Params.Source, r.target())
	if n := r.Params.OnlyHere; n > 0 {
		t += fmt.Sprintf("; %d images that only this disk has go aside", n)
	}
	return t
}

func (r *Restorer) what() string {
	gen := "the newest generation"
	switch {
	case r.Params.Generation == 0:
		gen = "the mirror as it is (no log)"
	case !r.Params.Latest:
		gen = fmt.Sprintf("generation %d", r.Params.Generation)
	}
	if r.Params.Image != "" {
		return "image " + r.Params.Image + " of " + gen
	}
	return gen
}

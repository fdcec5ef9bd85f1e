package runs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

func renderList(t *ui.Table, all []procedure.Summary) {
	t.Header("RUN", "STATE", "KIND", "TARGET", "STEP", "CREATED", "UPDATED")
	for _, s := range all {
		step := ""
		if s.Of > 0 && s.Step > 0 {
			step = fmt.Sprintf("%d/%d %s", s.Step, s.Of, s.Name)
		}
		t.Row(s.ID, ui.Styled{Text: string(s.State), Style: stateStyle(s.State)}, s.Kind, s.Target, step, s.Created.Truncate(time.Second), s.Updated.Truncate(time.Second))
	}
}

func stateStyle(s procedure.State) ui.Style {
	switch s {
	case procedure.Done, procedure.Undone:
		return ui.Good
	case procedure.Midway, procedure.Undoing:
		return ui.Caution
	case procedure.Stuck, procedure.Damaged:
		return ui.Bad
	case procedure.Running:
		return ui.Strong
	}
	return ui.Faint
}

// renderShow writes a report for people: what it is, its steps, what next.
func renderShow(u *ui.UI, r *procedure.Report) error {
	b := ui.Block{Title: fmt.Sprintf("run %s: %s", r.ID, r.Title), Style: ui.Strong}
	field := func(label string, lines ...string) {
		if len(lines) > 0 && lines[0] != "" {
			b.Fields = append(b.Fields, ui.Field{Label: label, Lines: lines})
		}
	}
	field("State", stateText(r))
	field("Damage", r.Damage)
	field("Kind", r.Kind)
	field("Target", r.Target)
	if !r.Created.IsZero() {
		field("Created", stamp(r.Created)+" by "+who(r.By))
		field("Updated", stamp(r.Updated))
	}
	var resumed []string
	for _, m := range r.Resumes {
		how := "forward"
		if m.Back {
			how = "to undo it"
		}
		resumed = append(resumed, fmt.Sprintf("%s by %s, %s", stamp(m.At), who(m.By), how))
	}
	field("Resumed", resumed...)
	field("Stopped", r.Stopped)
	if r.NoReturn != "" {
		field("No way back", fmt.Sprintf("since step %q", r.NoReturn))
	}
	var kept []string
	for _, a := range r.Artifacts {
		kept = append(kept, fmt.Sprintf("%s, %d bytes, sha256 %s", a.Name, a.Size, a.SHA256))
	}
	field("Artifacts", kept...)
	field("Left", r.Leaves...)
	if u.Verbose() {
		field("Params", compact(r.Params))
	}
	field("Run", r.Next...)
	if err := b.Render(u.Out(), u.OutPaint(), u.Width()); err != nil {
		return err
	}
	if len(r.Steps) == 0 {
		return nil
	}
	if err := u.Printf("\n"); err != nil {
		return err
	}
	t := u.NewTable(false)
	renderSteps(t, r, u.Verbose())
	return t.Render(u.Out())
}

func stateText(r *procedure.Report) string {
	if r.State == procedure.Running {
		return fmt.Sprintf("running (pid %d), at step %d of %d", r.PID, r.Step, r.Of)
	}
	return string(r.State)
}

func renderSteps(t *ui.Table, r *procedure.Report, verbose bool) {
	head := []string{"STEP", "NAME", "STATE", "BEGAN", "TOOK", "ERROR"}
	if verbose {
		head = append(head, "OUTPUT")
	}
	t.Header(head...)
	for _, s := range r.Steps {
		began, took := time.Time{}, ""
		if s.Began != nil {
			began = s.Began.Truncate(time.Second)
			if s.Ended != nil {
				took = procedure.Elapsed(s.Ended.Sub(*s.Began)).String()
			}
		}
		state := s.Describe()
		if s.State == procedure.StateStarted && r.State == procedure.Running {
			state = "running"
		}
		row := []any{fmt.Sprintf("%d/%d", s.N, r.Of), s.Name, ui.Styled{Text: state, Style: stepStyle(s.State)}, began, took, s.Error}
		if verbose {
			row = append(row, compact(s.Output))
		}
		t.Row(row...)
	}
}

func stepStyle(s procedure.StepState) ui.Style {
	switch s {
	case procedure.StateSucceeded, procedure.StateUndone:
		return ui.Good
	case procedure.StateStarted, procedure.StateUndoing, procedure.StateFailed, procedure.StateUnchanged:
		return ui.Caution
	case procedure.StateUndoFailed:
		return ui.Bad
	}
	return ui.Faint
}

func renderForgotten(u *ui.UI, gone []procedure.Forgotten) error {
	for _, g := range gone {
		if err := u.Printf("run %s: forgotten\n", g.ID); err != nil {
			return err
		}
		for _, a := range g.Artifacts {
			name := a.Name
			if name == "" {
				name = a.SHA256
			}
			if err := u.Printf("  removed artifact %s, %d bytes\n", name, a.Size); err != nil {
				return err
			}
		}
	}
	return nil
}

func who(b procedure.By) string {
	var l []string
	if b.Who != "" {
		l = append(l, b.Who)
	}
	l = append(l, fmt.Sprintf("pid %d", b.PID))
	if b.Tool != "" {
		l = append(l, "tritonops "+b.Tool)
	}
	return strings.Join(l, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func compact(raw json.RawMessage) string {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

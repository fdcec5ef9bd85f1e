package cli

import (
	"fmt"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/ui"
)

// PrintHealth writes a report of checks: as JSON the report itself, for people
// a block per fault and warning and one line to sum up, with -v a table of all
// checks before them. Faults end the command with exit code 3 and no further
// words.
func (e *Env) PrintHealth(r *health.Report) error {
	err := e.PrintText(r, func(u *ui.UI) error { return e.healthText(r) })
	if err == nil && r.Status == health.Fault {
		return fail.Silent(fail.Faults)
	}
	return err
}

func (e *Env) healthText(r *health.Report) error {
	out, paint := e.UI.Out(), e.UI.OutPaint()
	if e.Globals.Verbose {
		t := e.UI.NewTable(e.Globals.NoHeader)
		t.Header("CHECK", "STATUS", "SUMMARY")
		for _, o := range r.Checks {
			t.Row(o.Name, ui.Styled{Text: string(o.Status), Style: healthStyle(o.Status)}, o.Summary)
		}
		if err := t.Render(out); err != nil {
			return err
		}
	}
	blocks := 0
	for _, o := range r.Checks {
		if o.Status != health.Fault && o.Status != health.Warning {
			continue
		}
		if blocks++; blocks > 1 || e.Globals.Verbose {
			fmt.Fprintln(out)
		}
		if err := healthBlock(o).Render(out, paint, e.UI.Width()); err != nil {
			return err
		}
	}
	if blocks > 0 || e.Globals.Verbose {
		fmt.Fprintln(out)
	}
	return e.UI.Printf("%s\n", healthSum(r))
}

// healthBlock is one finding in the manner of FMA.
func healthBlock(o health.Outcome) ui.Block {
	return ui.Block{
		Title: fmt.Sprintf("%s (%s)", o.Name, o.Title),
		Style: healthStyle(o.Status),
		Fields: []ui.Field{
			{Label: "State", Lines: []string{string(o.Status)}},
			{Label: "Reason", Lines: []string{o.Summary}},
			{Label: "Evidence", Lines: o.Evidence},
			{Label: "Impact", Lines: nonEmpty(o.Impact)},
			{Label: "Run", Lines: o.Fix, Whole: true},
		},
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func healthStyle(s health.Status) ui.Style {
	switch s {
	case health.OK:
		return ui.Good
	case health.Warning:
		return ui.Caution
	case health.Fault:
		return ui.Bad
	}
	return ui.Faint
}

func healthSum(r *health.Report) string {
	return fmt.Sprintf("%d checks: %d ok, %d faulted, %d warnings, %d unknown, %d not applicable",
		len(r.Checks), r.Counts.OK, r.Counts.Fault, r.Counts.Warning, r.Counts.Unknown, r.Counts.NotApplicable)
}

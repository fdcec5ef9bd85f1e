package imgapi

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/ui"
)

// statusSum is the one line that sums a report up.
func statusSum(r *health.Report) string {
	c := r.Counts
	return fmt.Sprintf("%s %s: %d ok, %d faults, %d warnings, %d unknown, %d not applicable",
		r.Started.UTC().Format("2006-01-02T15:04:05Z"), r.Status, c.OK, c.Fault, c.Warning, c.Unknown, c.NotApplicable)
}

// statusFrame is what --watch draws on a terminal: a line to sum up and one for
// each check, cut to width columns (0 = not cut). It has always the same number
// of lines, so that drawing it again covers the one before.
func statusFrame(r *health.Report, t *ui.Table, width int) ([]string, error) {
	t.Header("CHECK", "STATUS", "SUMMARY")
	for _, o := range r.Checks {
		t.Row(o.Name, string(o.Status), o.Summary)
	}
	var buf bytes.Buffer
	if err := t.Render(&buf); err != nil {
		return nil, err
	}
	lines := append([]string{statusSum(r)}, strings.Split(strings.TrimRight(buf.String(), "\n"), "\n")...)
	for i, l := range lines {
		lines[i] = cut(l, width)
	}
	return lines, nil
}

// cut shortens a line to width columns; what was cut off is shown by "...".
func cut(line string, width int) string {
	if width < 10 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-3]) + "..."
}

// statusChanges says in a line each which checks are not ok in r and were not
// the same in the report before; before is nil for the first.
func statusChanges(before, r *health.Report) []string {
	var lines []string
	for _, o := range r.Checks {
		was := health.OK
		if before != nil {
			if b, ok := before.Outcome(o.Name); ok {
				was = b.Status
			}
		}
		quiet := before == nil && o.Status == health.NotApplicable
		if o.Status != was && !quiet {
			lines = append(lines, fmt.Sprintf("  %s: %s: %s", o.Name, o.Status, ui.Clean(o.Summary)))
		}
	}
	return lines
}

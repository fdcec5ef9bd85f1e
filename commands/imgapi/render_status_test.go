package imgapi

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/ui"
)

func report(summary string, statuses ...health.Status) *health.Report {
	r := &health.Report{Started: time.Date(2026, 11, 22, 13, 2, 0, 0, time.UTC), Status: health.Fault}
	for i, s := range statuses {
		r.Checks = append(r.Checks, health.Outcome{Name: string(rune('a' + i)), Result: health.Result{Status: s, Summary: summary}})
	}
	return r
}

func TestAFrameHasAlwaysTheSameLinesWhateverTheSummariesHold(t *testing.T) {
	u := ui.New(ui.Config{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	for _, summary := range []string{"fine", "", strings.Repeat("long ", 100), "two\nlines", "\x1b[2Jhostile", "wide 世界"} {
		frame, err := statusFrame(report(summary, health.OK, health.Fault), u.NewTable(false), 40)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) != 4 {
			t.Errorf("%q: %d lines: %q", summary, len(frame), frame)
		}
		for _, l := range frame {
			if len([]rune(l)) > 40 || strings.ContainsAny(l, "\x1b\n") {
				t.Errorf("%q: line %q", summary, l)
			}
		}
	}
}

func TestChangesAreToldOnceAndRecoveryToo(t *testing.T) {
	first := report("x", health.OK, health.Fault, health.NotApplicable)
	if got := strings.Join(statusChanges(nil, first), "|"); got != "  b: fault: x" {
		t.Errorf("first: %q", got)
	}
	if got := statusChanges(first, first); got != nil {
		t.Errorf("nothing changed: %q", got)
	}
	next := report("y", health.Warning, health.OK, health.NotApplicable)
	if got := strings.Join(statusChanges(first, next), "|"); got != "  a: warning: y|  b: ok: y" {
		t.Errorf("next: %q", got)
	}
}

func TestOnATerminalTheListIsDrawnOverTheOldOne(t *testing.T) {
	var out bytes.Buffer
	term := "xterm"
	env := &cli.Env{UI: ui.New(ui.Config{In: strings.NewReader(""), Out: &out, Err: io.Discard}), Globals: &cli.Globals{Output: cli.Table},
		Getenv: func(string) string { return term }}
	env.UI.OutTTY = true
	o := &statusOptions{env: env}
	first, second := report("a rather long summary", health.OK, health.Fault), report("x", health.OK, health.OK)
	if err := o.show(nil, first); err != nil {
		t.Fatal(err)
	}
	frame := out.String()
	if !strings.HasPrefix(frame, "\x1b[H") || !strings.HasSuffix(frame, "\x1b[K\n\x1b[J") || strings.Count(frame, "\x1b[K\n") != strings.Count(frame, "\n") {
		t.Errorf("%q: what was longer before would stay", frame)
	}
	out.Reset()
	if err := o.show(first, second); err != nil {
		t.Fatal(err)
	}
	if again := out.String(); strings.Count(again, "\n") != strings.Count(frame, "\n") {
		t.Errorf("%q and %q have different heights", frame, again)
	}
	term = "dumb"
	out.Reset()
	if err := o.show(first, second); err != nil || strings.Contains(out.String(), "\x1b") {
		t.Errorf("a dumb terminal got %q, %v", out.String(), err)
	}
}

package runs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Look says how events are shown.
type Look struct {
	JSON  bool // one line of JSON per event
	TTY   bool // the running step is redrawn in place
	Paint ui.Paint
	Width func() int       // columns of the terminal, 0 unknown
	Now   func() time.Time // nil: the system clock
	Every time.Duration    // between progress lines off a terminal; 0: five seconds
}

// NewEvents returns an observer that writes what happens to w: on a terminal a
// line per step, the running one with its time and detail; elsewhere a line with
// a time of day per event; or JSON lines.
func NewEvents(w io.Writer, l Look) procedure.Observer {
	if l.Now == nil {
		l.Now = time.Now
	}
	if l.Width == nil {
		l.Width = func() int { return 0 }
	}
	if l.Every == 0 {
		l.Every = 5 * time.Second
	}
	switch {
	case l.JSON:
		return &jsonEvents{w: w, now: l.Now}
	case l.TTY:
		return &liveEvents{w: w, look: l}
	}
	return &plainEvents{w: w, look: l}
}

// jsonEvents is a stream for runbooks: {"event": ..., "at": ..., the event's
// fields}.
type jsonEvents struct {
	w   io.Writer
	now func() time.Time
}

// Observe writes one line. A reader that went away does not stop the run.
func (j *jsonEvents) Observe(ev procedure.Event) {
	b, err := eventJSON(ev, j.now())
	if err != nil {
		return // every event type is plain data: a test encodes them all
	}
	_, _ = j.w.Write(append(b, '\n'))
}

// eventJSON puts the event's name and time before its own fields.
func eventJSON(ev procedure.Event, at time.Time) ([]byte, error) {
	head, err := json.Marshal(struct {
		Event string    `json:"event"`
		At    time.Time `json:"at"`
	}{ev.EventName(), at.UTC().Truncate(time.Millisecond)})
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := ui.JSONL(&body, ev); err != nil {
		return nil, err
	}
	fields := bytes.TrimSpace(body.Bytes())
	if bytes.Equal(fields, []byte("{}")) {
		return head, nil
	}
	return append(append(head[:len(head)-1], ','), fields[1:]...), nil
}

// plainEvents is for logs and pipes.
type plainEvents struct {
	w    io.Writer
	look Look

	mu   sync.Mutex
	last time.Time // of the last progress line
	pace pace
	full string // phase whose end has been shown
}

// Observe writes a line, or nothing for events that came too soon.
func (p *plainEvents) Observe(ev procedure.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, speed := p.look.Now(), ""
	switch ev := ev.(type) {
	case procedure.StepStarted, procedure.UndoStarted:
		p.last, p.pace, p.full = now, pace{}, ""
	case procedure.StepProgress:
		speed = p.pace.text(ev, now)
		full := ev.Total > 0 && ev.Done >= ev.Total
		if now.Sub(p.last) < p.look.Every && !full || full && p.full == ev.Phase {
			return // too soon, or said already
		}
		p.full = ""
		if full {
			p.full = ev.Phase
		}
		p.last = now
	}
	for _, l := range sentences(ev) {
		fmt.Fprintf(p.w, "%s %s%s\n", now.UTC().Format("15:04:05Z"), ui.Clean(l), speed)
	}
}

// sentences tells an event to people, usually in one line.
func sentences(ev procedure.Event) []string {
	one := func(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }
	switch ev := ev.(type) {
	case procedure.RunStarted:
		return one("run %s: %s", ev.Run, headline(ev))
	case procedure.StepStarted:
		return one("%s: %s", ref(ev.StepRef), ev.Line)
	case procedure.StepDetail:
		return one("%s: %s", ref(ev.StepRef), ev.Text)
	case procedure.StepProgress:
		return one("%s: %s", ref(ev.StepRef), counted(ev))
	case procedure.StepDone:
		if ev.Already {
			return one("%s: %s: was so already", ref(ev.StepRef), ev.Line)
		}
		return one("%s: done, %s", ref(ev.StepRef), ev.Took)
	case procedure.StepFailed:
		return one("%s: failed after %s: %s", ref(ev.StepRef), ev.Took, ev.Error)
	case procedure.UndoStarted:
		return one("%s: undo: %s", ref(ev.StepRef), ev.Line)
	case procedure.UndoDone:
		return one("%s: undone, %s", ref(ev.StepRef), ev.Took)
	case procedure.UndoFailed:
		return one("%s: undo failed after %s: %s", ref(ev.StepRef), ev.Took, ev.Error)
	case procedure.RunEnded:
		return ending(ev)
	}
	return nil // PlanShown is the question's business, preflights speak when they refuse
}

func headline(ev procedure.RunStarted) string {
	text := fmt.Sprintf("%s (%d steps)", ev.Title, ev.Of)
	if ev.Of == 1 {
		text = ev.Title
	}
	switch {
	case ev.Direction == "back":
		return "undo: " + text
	case ev.Resumed:
		return "resumed: " + text
	}
	return text
}

// pace is how fast the phase under way goes.
type pace struct {
	phase string
	first int64 // done when the phase was first heard of: resumed work is no speed
	since time.Time
}

// text is ", 12 MiB/s, 1m5s left", or nothing while there is too little to judge
// by.
func (p *pace) text(ev procedure.StepProgress, now time.Time) string {
	if ev.Phase != p.phase || ev.Done < p.first {
		p.phase, p.first, p.since = ev.Phase, ev.Done, now
	}
	took := now.Sub(p.since).Seconds()
	rate := float64(ev.Done-p.first) / max(took, 0.001)
	if took < 1 || rate <= 0 {
		return ""
	}
	text := ", " + ui.Rate(rate, ev.Unit) + "/s"
	if left := ev.Total - ev.Done; left > 0 {
		text += fmt.Sprintf(", %s left", (time.Duration(float64(left)/rate) * time.Second))
	}
	return text
}

func ref(r procedure.StepRef) string { return fmt.Sprintf("%d/%d %s", r.N, r.Of, r.Step) }

// ending is the last word about a run. The error itself is the command's.
func ending(ev procedure.RunEnded) []string {
	if ev.Run == "" {
		return []string{"nothing had begun, no run is left"}
	}
	lines := []string{fmt.Sprintf("run %s: %s, %s", ev.Run, ev.State, ev.Took)}
	for _, l := range ev.Leaves {
		lines = append(lines, "left on purpose: "+l)
	}
	return lines
}

// counted is a count in words: "download: 12 of 400 files (3%)".
func counted(ev procedure.StepProgress) string {
	text := ev.Phase + ": " + amount(ev.Done, ev.Unit)
	if ev.Total > 0 {
		text += " of " + amount(ev.Total, ev.Unit)
	}
	if ev.Unit != "bytes" {
		text += " " + ev.Unit
	}
	if ev.Total > 0 {
		text += fmt.Sprintf(" (%d%%)", share(ev.Done, ev.Total))
	}
	return text
}

package runs

import (
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/tritonops/tritonops/pkg/procedure"
	"github.com/tritonops/tritonops/pkg/ui"
)

// liveEvents draws on a terminal: finished steps stay as lines, the running one
// is the last line, redrawn with its time and what it is doing.
type liveEvents struct {
	w    io.Writer
	look Look

	mu     sync.Mutex
	active bool // the last line is the running step's
	ref    procedure.StepRef
	word   string
	began  time.Time
	detail string
	pace   pace
	stop   chan struct{} // ends the clock
}

// clearLine goes to the first column and erases the line.
const clearLine = "\r\x1b[K"

// Observe redraws the last line or adds one.
func (v *liveEvents) Observe(ev procedure.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch ev := ev.(type) {
	case procedure.PreflightStarted:
		v.begin(ev.StepRef, "checking")
	case procedure.PreflightEnded:
		v.end()
	case procedure.RunStarted:
		v.end()
		v.line(ui.Strong, fmt.Sprintf("run %s: %s", ev.Run, headline(ev)))
	case procedure.StepStarted:
		v.begin(ev.StepRef, "running")
	case procedure.UndoStarted:
		v.begin(ev.StepRef, "undoing")
	case procedure.StepDetail:
		v.say(ev.Text)
	case procedure.StepProgress:
		v.say(counted(ev) + v.pace.text(ev, v.look.Now()))
	case procedure.StepDone:
		if ev.Already {
			v.finish(ev.StepRef, ui.Faint, "already", "")
		} else {
			v.finish(ev.StepRef, ui.Good, "done", ev.Took.String())
		}
	case procedure.StepFailed:
		v.finish(ev.StepRef, ui.Bad, "failed", ev.Took.String())
	case procedure.UndoDone:
		v.finish(ev.StepRef, ui.Good, "undone", ev.Took.String())
	case procedure.UndoFailed:
		v.finish(ev.StepRef, ui.Bad, "stuck", ev.Took.String())
	case procedure.RunEnded:
		v.end()
		for _, l := range ending(ev) {
			v.line(ui.Strong, l)
		}
	}
}

// begin makes a step the running one and starts its clock.
func (v *liveEvents) begin(ref procedure.StepRef, word string) {
	v.end()
	v.active, v.ref, v.word, v.began, v.detail, v.pace = true, ref, word, v.look.Now(), "", pace{}
	v.draw()
	stop := make(chan struct{})
	v.stop = stop
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				v.mu.Lock()
				if v.stop == stop {
					v.draw()
				}
				v.mu.Unlock()
			}
		}
	}()
}

// end takes the running step's line away and stops its clock.
func (v *liveEvents) end() {
	if v.stop != nil {
		close(v.stop)
		v.stop = nil
	}
	if v.active {
		v.active = false
		fmt.Fprint(v.w, clearLine)
	}
}

// finish leaves a line of the step behind.
func (v *liveEvents) finish(ref procedure.StepRef, style ui.Style, word, took string) {
	v.end()
	text := fmt.Sprintf("  %s %s %s", number(ref), v.look.Paint.Text(style, fmt.Sprintf("%-8s", word)), ui.Clean(ref.Line))
	if took != "" {
		text += "  " + v.look.Paint.Text(ui.Faint, took)
	}
	fmt.Fprintln(v.w, text)
}

func (v *liveEvents) line(style ui.Style, text string) {
	fmt.Fprintln(v.w, v.look.Paint.Text(style, ui.Clean(text)))
}

func (v *liveEvents) say(text string) {
	v.detail = text
	if v.active {
		v.draw()
	}
}

// draw writes the running step's line over itself, cut to the terminal: a line
// that wraps could not be taken back.
func (v *liveEvents) draw() {
	took := v.look.Now().Sub(v.began).Truncate(time.Second)
	tail := "  " + took.String()
	if v.detail != "" {
		tail += "  " + ui.Clean(v.detail)
	}
	text := fmt.Sprintf("  %s %-8s %s", number(v.ref), v.word, ui.Clean(v.ref.Line))
	width := v.look.Width() - 1
	// What moves is worth more than the step's words, which the plan has shown.
	if width > 0 {
		text = cut(text, max(width-utf8.RuneCountInString(tail), len("  10/10 running  a...")))
	}
	fmt.Fprint(v.w, clearLine+cut(text+tail, width))
}

func number(r procedure.StepRef) string {
	of := fmt.Sprint(r.Of)
	return fmt.Sprintf("%*d/%s", len(of), r.N, of)
}

// cut shortens text to the columns there are.
func cut(text string, columns int) string {
	if columns <= 3 || utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:columns-3]) + "..."
}

func amount(n int64, unit string) string {
	if unit == "bytes" {
		return humanize.IBytes(uint64(max(n, 0)))
	}
	return humanize.Comma(n)
}

// share is a percentage that says 100 only at the end.
func share(done, total int64) int64 {
	if done >= total {
		return 100
	}
	return min(99, int64(float64(done)/float64(total)*100))
}

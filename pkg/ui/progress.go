package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// Progress shows long work on stderr: a bar with rate and time left on a
// terminal, a plain line every few seconds elsewhere, nothing with -q. It
// satisfies the Progress interfaces that the domain packages declare and is
// safe for concurrent use. Call Close before anything else is printed.
type Progress struct {
	mu    sync.Mutex
	draw  drawer
	phase phase
}

// phase is the work now under way.
type phase struct {
	name, unit  string
	total, done int64
	since       time.Time
}

// drawer shows the current phase; every method is called with mu held.
type drawer interface {
	begin(p phase)
	add(n int64, p phase)
	end(p phase)
	note(text string)
	close()
}

// NewProgress returns the renderer that suits the stream and the settings.
func (u *UI) NewProgress() *Progress {
	switch {
	case u.set.Quiet:
		return &Progress{draw: silent{}}
	case u.ErrTTY && u.term != "dumb":
		return &Progress{draw: newBars(u.raw, u.Redactor)}
	}
	every := u.set.Every
	if every == 0 {
		every = 5 * time.Second
	}
	p := &Progress{}
	p.draw = newLines(u.err, every, p)
	return p
}

// Phase ends the current phase and begins another. Unit is "bytes" or a plural
// noun; total 0 means unknown.
func (p *Progress) Phase(name string, total int64, unit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
	p.phase = phase{name: name, unit: unit, total: total, since: time.Now()}
	p.draw.begin(p.phase)
}

// Add counts n more units as done.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase.done += n
	p.draw.add(n, p.phase)
}

// Note shows a line of text without disturbing the bar.
func (p *Progress) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draw.note(CleanText(text))
}

// Close ends the current phase and gives the terminal back.
func (p *Progress) Close() {
	p.mu.Lock()
	p.finish()
	draw := p.draw
	p.draw = silent{}
	p.mu.Unlock()
	draw.close() // waits for a goroutine that may want mu
}

func (p *Progress) finish() {
	if p.phase.name != "" {
		p.draw.end(p.phase)
		p.phase = phase{}
	}
}

// text is a phase in words: "upload: 12 of 400 files (3%), 6/s, 1m5s left".
func (ph phase) text(now time.Time) string { return Clean(ph.name) + ": " + ph.state(now) }

// state is what text says behind the name.
func (ph phase) state(now time.Time) string {
	var b strings.Builder
	b.WriteString(amount(ph.done, ph.unit))
	if ph.total > 0 {
		fmt.Fprintf(&b, " of %s", amount(ph.total, ph.unit))
	}
	if ph.unit != "bytes" {
		b.WriteString(" " + Clean(ph.unit))
	}
	if ph.total > 0 {
		fmt.Fprintf(&b, " (%d%%)", percent(ph.done, ph.total))
	}
	rate := float64(ph.done) / max(now.Sub(ph.since).Seconds(), 0.001)
	if ph.done > 0 {
		fmt.Fprintf(&b, ", %s/s", Rate(rate, ph.unit))
	}
	if left := ph.total - ph.done; rate > 0 && left > 0 {
		fmt.Fprintf(&b, ", %s left", (time.Duration(float64(left)/rate) * time.Second).Round(time.Second))
	}
	return b.String()
}

func amount(n int64, unit string) string {
	if unit == "bytes" {
		return humanize.IBytes(uint64(max(n, 0)))
	}
	return humanize.Comma(n)
}

// Rate is how much of a unit there is in a second: "12 MiB", "1,204", and "0.8"
// of what is slow.
func Rate(perSecond float64, unit string) string {
	if unit != "bytes" && perSecond < 10 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return amount(int64(perSecond), unit)
}

// percent never says 100 before the end.
func percent(done, total int64) int64 {
	if done >= total {
		return 100
	}
	return min(99, int64(float64(done)/float64(total)*100))
}

type silent struct{}

func (silent) begin(phase)      {}
func (silent) add(int64, phase) {}
func (silent) end(phase)        {}
func (silent) note(string)      {}
func (silent) close()           {}

// lines prints the phase as a sentence every so often.
type lines struct {
	w    io.Writer
	stop chan struct{}
	done chan struct{}
}

func newLines(w io.Writer, every time.Duration, p *Progress) *lines {
	l := &lines{w: w, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case now := <-tick.C:
				p.mu.Lock()
				if p.phase.name != "" && p.draw == drawer(l) {
					fmt.Fprintln(l.w, p.phase.text(now))
				}
				p.mu.Unlock()
			}
		}
	}()
	return l
}

func (l *lines) begin(phase)      {}
func (l *lines) add(int64, phase) {}
func (l *lines) end(p phase) {
	if p.done != 0 { // "scan: 0 files" helps nobody
		fmt.Fprintln(l.w, p.text(time.Now()))
	}
}
func (l *lines) note(text string) { fmt.Fprintln(l.w, text) }
func (l *lines) close()           { close(l.stop); <-l.done }

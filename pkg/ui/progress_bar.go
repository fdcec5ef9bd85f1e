package ui

import (
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars draws with mpb. The container starts with the first phase, so that a
// command which turns out to have nothing to do draws nothing.
type bars struct {
	w   io.Writer
	red *Redactor
	mp  *mpb.Progress
	bar *mpb.Bar
}

func newBars(w io.Writer, red *Redactor) *bars { return &bars{w: w, red: red} }

func (b *bars) begin(p phase) {
	if b.mp == nil {
		b.mp = mpb.New(mpb.WithOutput(b.w), mpb.WithAutoRefresh())
	}
	style := mpb.BarFillerBuilder(mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"))
	if p.total == 0 {
		style = mpb.NopStyle() // without an end there is nothing to fill
	}
	var stopped time.Time
	state := func(s decor.Statistics) string {
		p.done = s.Current
		if (s.Completed || s.Aborted) && stopped.IsZero() {
			stopped = time.Now() // the rate of finished work does not sink
		}
		if !stopped.IsZero() {
			return p.state(stopped)
		}
		return p.state(time.Now())
	}
	// A bar made with a total ends by itself when it is reached, and more may
	// turn up; one that is given its total later ends when we say so.
	b.bar = b.mp.New(0, style,
		mpb.PrependDecorators(decor.Name(Clean(p.name)+" ")), mpb.AppendDecorators(decor.Any(state)))
	if p.total > 0 {
		b.bar.SetTotal(p.total, false)
	}
}

func (b *bars) add(n int64, _ phase) {
	if b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

func (b *bars) end(p phase) {
	if b.bar == nil {
		return
	}
	if p.total > 0 && p.done < p.total {
		b.bar.Abort(false) // stopped early: the bar stays where it is
	} else {
		b.bar.SetTotal(-1, true)
	}
	b.bar.Wait()
	b.bar = nil
}

func (b *bars) note(text string) {
	text = b.red.Redact(text) + "\n"
	w := b.w
	if b.mp != nil {
		w = b.mp // above the bars
	}
	// A note that cannot be shown is no reason to stop the work.
	_, _ = io.WriteString(w, text)
}

func (b *bars) close() {
	if b.mp != nil {
		b.mp.Wait()
	}
}

package procedure

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Wait is a condition that is polled until it holds. It never goes on hoping: a
// wait that runs out is an error with the reason last seen.
type Wait struct {
	What   string        // what is waited for, as in "checkpoint of dc2"
	Every  time.Duration // between two looks; 0: one second
	Within time.Duration // time allowed; 0: no limit but ctx
}

// TimeoutError says that a wait ran out.
type TimeoutError struct {
	What   string
	Within time.Duration
	Reason string // as the last look gave it
}

// Error names the wait, the time allowed and the reason.
func (e *TimeoutError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: not reached within %s", e.What, e.Within)
	}
	return fmt.Sprintf("%s: not reached within %s: %s", e.What, e.Within, e.Reason)
}

// Until looks at once and then at every interval. look returns whether the
// condition holds and, if not, the reason; its error ends the wait. note, if not
// nil, is told every new reason. The error is a [*TimeoutError], look's, or ctx's.
func (w Wait) Until(ctx context.Context, note func(string), look func(context.Context) (ok bool, reason string, err error)) error {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if w.Within > 0 {
		limited, cancel = context.WithTimeout(ctx, w.Within)
	}
	defer cancel()
	every := w.Every
	if every <= 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		ok, reason, err := look(limited)
		switch {
		case err != nil && ctx.Err() == nil && limited.Err() != nil && errors.Is(err, context.DeadlineExceeded):
			return &TimeoutError{What: w.What, Within: w.Within, Reason: last}
		case err != nil:
			return fmt.Errorf("%s: %w", w.What, err)
		case ok:
			return nil
		}
		if reason != last && note != nil {
			note(reason)
		}
		last = reason
		select {
		case <-limited.Done():
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("%s: interrupted: %w", w.What, err)
			}
			return &TimeoutError{What: w.What, Within: w.Within, Reason: last}
		case <-tick.C:
		}
	}
}

// Wait polls like [Wait.Until] and shows the reasons as details of the step.
func (r *Run) Wait(ctx context.Context, w Wait, look func(context.Context) (ok bool, reason string, err error)) error {
	return w.Until(ctx, func(reason string) { r.Detail("waiting for %s: %s", w.What, reason) }, look)
}

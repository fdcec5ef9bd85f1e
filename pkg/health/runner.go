package health

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DefaultTimeout bounds a run for which the caller chose nothing.
const DefaultTimeout = 15 * time.Second

// grace is how long a run waits, after its deadline, for what the cancelled
// checks have to say: their words are evidence for the fault.
const grace = 100 * time.Millisecond

// Runner runs a registry. The zero value works.
type Runner struct {
	Timeout time.Duration    // for all checks together; 0 means [DefaultTimeout]
	Now     func() time.Time // nil means time.Now; stamps the report only
}

// timed is one check's answer.
type timed struct {
	index   int
	result  Result
	elapsed time.Duration
	late    bool // the deadline had passed: what it says is about being stopped
}

// Run runs every check of g at once and returns after at most the timeout and
// a short grace. It fails only when ctx ends first: a half-finished run is no
// report.
//
// A check that ignores its context keeps its goroutine; its late answer goes
// nowhere.
func (r Runner) Run(ctx context.Context, g *Registry) (*Report, error) {
	limit := r.Timeout
	if limit <= 0 {
		limit = DefaultTimeout
	}
	now := r.Now
	if now == nil {
		now = time.Now
	}
	rep := &Report{Started: now().UTC(), Checks: make([]Outcome, len(g.checks))}
	begin := time.Now()
	answers, err := collect(ctx, g.checks, limit)
	if err != nil {
		return nil, err
	}
	for i, c := range g.checks {
		a := answers[i]
		rep.Checks[i] = Outcome{Name: c.Name, Title: c.Title, Result: normal(a.result), ElapsedMS: a.elapsed.Milliseconds()}
	}
	attribute(g.checks, rep.Checks)
	rep.ElapsedMS = time.Since(begin).Milliseconds()
	rep.summarise()
	return rep, nil
}

// collect starts all checks and gathers their answers by index.
func collect(ctx context.Context, checks []Check, limit time.Duration) ([]timed, error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Buffered for all: a check that answers late never blocks on nobody.
	ch := make(chan timed, len(checks))
	answers := make([]timed, len(checks))
	for i, c := range checks {
		answers[i] = timed{index: i, result: overrun(limit, ""), elapsed: limit}
		go func() {
			start := time.Now()
			res := guarded(bounded, c)
			// By the deadline and not by elapsed: a goroutine starts a little after
			// the clock does.
			ch <- timed{index: i, result: res, elapsed: time.Since(start), late: bounded.Err() != nil}
		}()
	}
	deadline, late := bounded.Done(), (<-chan time.Time)(nil)
	for pending := len(checks); pending > 0; {
		select {
		case a := <-ch:
			pending--
			if a.late {
				a.result = overrun(limit, a.result.Summary)
			}
			answers[a.index] = a
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-deadline:
			deadline, late = nil, time.After(grace)
		case <-late:
			pending = 0
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return answers, nil
}

// guarded runs one check and turns a panic into a fault. The message names the
// panic, not the stack: whoever reads it is an operator.
func guarded(ctx context.Context, c Check) (res Result) {
	defer func() {
		if p := recover(); p != nil {
			res = Faultf("the check itself broke: %s", oneLine(fmt.Sprint(p))).
				Because("nothing is known about what it looks at; this is a defect of the program").
				Do("report it with the output of this command and -j")
		}
	}()
	return c.Run(ctx)
}

func overrun(limit time.Duration, said string) Result {
	res := Faultf("no answer within %s", limit)
	if said != "" {
		res = res.Saw("when stopped: %s", said)
	}
	return res.Because("what does not answer in time cannot be relied on").
		Do("look at the load of the machine and of what is being asked, or allow more time with --timeout")
}

// normal makes a result fit for the report: a known status, one-line summary,
// no nil slices.
func normal(r Result) Result {
	switch r.Status {
	case OK, Warning, Fault, Unknown, NotApplicable:
	default:
		r = Faultf("the check gave no verdict")
	}
	r.Summary = oneLine(r.Summary)
	if r.Evidence == nil {
		r.Evidence = []string{}
	}
	if r.Fix == nil {
		r.Fix = []string{}
	}
	return r
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// attribute marks the followers of failed checks. It goes in registration
// order, so a chain ends at its first failed member: what depends on a follower
// is attributed to the same root cause. A check that reported [Unknown] and
// depends on nothing that failed is a fault: nobody else would say it.
func attribute(checks []Check, outs []Outcome) {
	cause := make(map[string]string, len(outs)) // failed check -> root cause
	for i := range outs {
		o := &outs[i]
		if o.Status != Fault && o.Status != Unknown {
			continue
		}
		root := ""
		if !o.Own {
			for _, d := range checks[i].DependsOn {
				if root = cause[d]; root != "" {
					break
				}
			}
		}
		if root == "" {
			o.Status = Fault
			cause[o.Name] = o.Name
			continue
		}
		cause[o.Name] = root
		follow(o, root)
	}
}

// follow turns a fault into the consequence of root, keeping what it saw.
func follow(o *Outcome, root string) {
	seen := append([]string{o.Summary}, o.Evidence...)
	o.Result = Result{Status: Unknown, Summary: "depends on " + root, Evidence: seen, Fix: []string{}}
	o.Cause = root
}

// Package health runs named checks and says which of them is the cause and
// which only the consequence.
//
// A [Check] has a stable snake_case name, a title, the names of the checks it
// depends on and a function. A [Registry] holds them in the order in which
// results are given. [Runner.Run] starts all of them at once, bounds them by
// one timeout, and returns one [Outcome] for each, always:
//
//   - a check that panics, or returns nothing, is a fault of its own and
//     disturbs no other;
//   - a check that does not answer in time is a fault "no answer within 15s";
//   - a check that does not apply says so, with the reason: [NotApplicable];
//   - a fault whose cause is already reported by a check it depends on becomes
//     [Unknown], "depends on X", so that one broken thing is one fault.
//
// The package knows no service, keeps no history and damps no flapping: each
// run stands for itself.
package health

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Status is the verdict of one check. The words are part of the JSON contract.
type Status string

// The verdicts.
const (
	OK            Status = "ok"
	Warning       Status = "warning"        // works, but needs attention
	Fault         Status = "fault"          // broken, or about to be
	Unknown       Status = "unknown"        // could not be told, because of another fault
	NotApplicable Status = "not_applicable" // the summary says why
)

// Check is one thing that can be looked at.
type Check struct {
	Name  string // stable code, snake_case: scripts and alerts use it
	Title string // a few words for people
	// DependsOn names checks registered before this one. When one of them
	// failed, a fault of this one is its consequence.
	DependsOn []string
	// Run looks. It must honour ctx and must not keep what it was given. It is
	// called once per run, at the same time as all other checks.
	Run func(ctx context.Context) Result
}

// Result is what a check found.
type Result struct {
	Status   Status   `json:"status"`
	Summary  string   `json:"summary"`  // one line: what is the case
	Evidence []string `json:"evidence"` // what was seen, one fact a line
	Impact   string   `json:"impact"`   // why it matters; empty when all is well
	Fix      []string `json:"fix"`      // what to run or do, in order
	// Own marks a fault that stands whatever became of the checks this one
	// depends on: an expired certificate is expired even if the server behind it
	// is down.
	Own bool `json:"-"`
}

// Okf returns an ok result with a formatted summary.
func Okf(format string, args ...any) Result {
	return Result{Status: OK, Summary: fmt.Sprintf(format, args...)}
}

// Faultf returns a fault with a formatted summary.
func Faultf(format string, args ...any) Result {
	return Result{Status: Fault, Summary: fmt.Sprintf(format, args...)}
}

// Warnf returns a warning with a formatted summary.
func Warnf(format string, args ...any) Result {
	return Result{Status: Warning, Summary: fmt.Sprintf(format, args...)}
}

// NAf returns a not_applicable result; the summary is the reason.
func NAf(format string, args ...any) Result {
	return Result{Status: NotApplicable, Summary: fmt.Sprintf(format, args...)}
}

// Saw adds a line of evidence.
func (r Result) Saw(format string, args ...any) Result {
	r.Evidence = append(slices.Clip(r.Evidence), fmt.Sprintf(format, args...))
	return r
}

// Because sets the impact: why the finding matters.
func (r Result) Because(impact string) Result {
	r.Impact = impact
	return r
}

// Do adds lines to the fix.
func (r Result) Do(lines ...string) Result {
	r.Fix = append(slices.Clip(r.Fix), lines...)
	return r
}

// Outcome is the result of one named check in a [Report].
type Outcome struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Result
	// Cause is the failed check this one's fault is a consequence of; empty
	// otherwise.
	Cause     string `json:"cause,omitempty"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

// Counts says how many checks ended with each status.
type Counts struct {
	OK            int `json:"ok"`
	Warning       int `json:"warning"`
	Fault         int `json:"fault"`
	Unknown       int `json:"unknown"`
	NotApplicable int `json:"not_applicable"`
}

// Report is the outcome of every check of one run, in registration order.
type Report struct {
	Started   time.Time `json:"started_at"`
	ElapsedMS int64     `json:"elapsed_ms"`
	// Status is fault when there is a fault, else warning when there is a
	// warning, else ok when anything was found ok, else unknown: nothing could be
	// checked.
	Status Status    `json:"status"`
	Counts Counts    `json:"counts"`
	Checks []Outcome `json:"checks"`
}

// Outcome returns the outcome of the named check, false when there is none.
func (r *Report) Outcome(name string) (Outcome, bool) {
	i := slices.IndexFunc(r.Checks, func(o Outcome) bool { return o.Name == name })
	if i < 0 {
		return Outcome{}, false
	}
	return r.Checks[i], true
}

// summarise fills Status and Counts.
func (r *Report) summarise() {
	for _, o := range r.Checks {
		switch o.Status {
		case OK:
			r.Counts.OK++
		case Warning:
			r.Counts.Warning++
		case Fault:
			r.Counts.Fault++
		case NotApplicable:
			r.Counts.NotApplicable++
		default:
			r.Counts.Unknown++
		}
	}
	switch {
	case r.Counts.Fault > 0:
		r.Status = Fault
	case r.Counts.Warning > 0:
		r.Status = Warning
	case r.Counts.OK > 0:
		r.Status = OK
	default:
		r.Status = Unknown
	}
}

// Registry is an ordered set of checks. Build it with [New].
type Registry struct{ checks []Check }

// New returns a registry of the checks in the order given. It is an error when
// a name is not snake_case or taken, a title or function is missing, or a check
// depends on one that does not stand before it (so there are no cycles).
func New(checks ...Check) (*Registry, error) {
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := make(map[string]bool, len(checks))
	for _, c := range checks {
		switch {
		case !snake.MatchString(c.Name):
			return nil, fmt.Errorf("check %q: name is not snake_case", c.Name)
		case seen[c.Name]:
			return nil, fmt.Errorf("check %s: registered twice", c.Name)
		case c.Title == "" || c.Run == nil:
			return nil, fmt.Errorf("check %s: has no title or nothing to run", c.Name)
		}
		for _, d := range c.DependsOn {
			if !seen[d] {
				return nil, fmt.Errorf("check %s: depends on %s, which does not stand before it", c.Name, d)
			}
		}
		seen[c.Name] = true
	}
	return &Registry{checks: slices.Clone(checks)}, nil
}

// Names lists the checks in order.
func (g *Registry) Names() []string {
	names := make([]string, len(g.checks))
	for i, c := range g.checks {
		names[i] = c.Name
	}
	return names
}

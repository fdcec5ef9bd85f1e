package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func returns(r Result) func(context.Context) Result {
	return func(context.Context) Result { return r }
}

// sleeper answers r after d, or that it was stopped.
func sleeper(d time.Duration, r Result) func(context.Context) Result {
	return func(ctx context.Context) Result {
		select {
		case <-time.After(d):
			return r
		case <-ctx.Done():
			return Faultf("stopped: %v", ctx.Err())
		}
	}
}

func mustNew(t *testing.T, checks ...Check) *Registry {
	t.Helper()
	g, err := New(checks...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func run(t *testing.T, r Runner, checks ...Check) *Report {
	t.Helper()
	rep, err := r.Run(t.Context(), mustNew(t, checks...))
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestRegistryRefusesWhatCannotBeReported(t *testing.T) {
	ok := returns(Okf("fine"))
	for want, checks := range map[string][]Check{
		"not snake_case":   {{Name: "httpPing", Title: "t", Run: ok}},
		"registered twice": {{Name: "a", Title: "t", Run: ok}, {Name: "a", Title: "t", Run: ok}},
		"no title":         {{Name: "a", Run: ok}},
		"nothing to run":   {{Name: "a", Title: "t"}},
		"does not stand":   {{Name: "a", Title: "t", Run: ok, DependsOn: []string{"b"}}, {Name: "b", Title: "t", Run: ok}},
	} {
		if _, err := New(checks...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

func TestChecksRunAtOnceAndReportInRegistrationOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks []Check
		for i := range 20 {
			d := time.Duration(20-i) * 100 * time.Millisecond // the first takes longest
			checks = append(checks, Check{Name: fmt.Sprintf("c%d", i), Title: "t", Run: sleeper(d, Okf("%d", i))})
		}
		begin := time.Now()
		rep := run(t, Runner{}, checks...)
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("20 checks of up to 2s took %v: not all at once", d)
		}
		for i, o := range rep.Checks {
			if o.Name != fmt.Sprintf("c%d", i) || o.Summary != fmt.Sprint(i) {
				t.Errorf("place %d holds %s %q", i, o.Name, o.Summary)
			}
			if want := int64(20-i) * 100; o.ElapsedMS != want {
				t.Errorf("%s: elapsed %d ms, want %d", o.Name, o.ElapsedMS, want)
			}
		}
	})
}

func TestACheckThatOverrunsIsAFaultAndDoesNotHoldTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := func(context.Context) Result { <-release; return Okf("too late") }
		begin := time.Now()
		rep := run(t, Runner{Timeout: 3 * time.Second},
			Check{Name: "quick", Title: "t", Run: returns(Okf("fine"))},
			Check{Name: "slow", Title: "t", Run: sleeper(time.Hour, Okf("never"))},
			Check{Name: "deaf", Title: "t", Run: deaf})
		if d := time.Since(begin); d != 3*time.Second+grace {
			t.Errorf("the run took %v, want the timeout and the grace", d)
		}
		close(release)
		if o := rep.Checks[0]; o.Status != OK {
			t.Errorf("quick: %+v", o)
		}
		for _, i := range []int{1, 2} {
			if o := rep.Checks[i]; o.Status != Fault || o.Summary != "no answer within 3s" || o.ElapsedMS != 3000 {
				t.Errorf("%s: %s %q after %d ms", o.Name, o.Status, o.Summary, o.ElapsedMS)
			}
		}
		if ev := rep.Checks[1].Evidence; len(ev) != 1 || !strings.Contains(ev[0], "stopped: context deadline exceeded") {
			t.Errorf("the words of the stopped check are lost: %q", ev)
		}
	})
}

func TestARunThatIsInterruptedIsNoReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		g := mustNew(t, Check{Name: "slow", Title: "t", Run: sleeper(time.Minute, Okf("x"))})
		rep, err := Runner{Timeout: time.Hour}.Run(ctx, g)
		if rep != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v", rep, err)
		}
	})
}

func TestAPanicIsAFaultOfThatCheckOnly(t *testing.T) {
	rep := run(t, Runner{},
		Check{Name: "bad", Title: "t", Run: func(context.Context) Result { panic("index out\nof range") }},
		Check{Name: "mute", Title: "t", Run: returns(Result{})},
		Check{Name: "good", Title: "t", Run: returns(Okf("fine"))})
	if o := rep.Checks[0]; o.Status != Fault || o.Summary != "the check itself broke: index out of range" {
		t.Errorf("bad: %+v", o)
	}
	if o := rep.Checks[1]; o.Status != Fault || o.Summary != "the check gave no verdict" {
		t.Errorf("mute: %+v", o)
	}
	if o := rep.Checks[2]; o.Status != OK {
		t.Errorf("good: %+v", o)
	}
}

func TestFollowersOfAFailedRootAreNotRepeatedAsFaults(t *testing.T) {
	rep := run(t, Runner{},
		Check{Name: "root", Title: "t", Run: returns(Faultf("refused"))},
		Check{Name: "follower", Title: "t", DependsOn: []string{"root"}, Run: returns(Faultf("503").Saw("GET /x"))},
		Check{Name: "chained", Title: "t", DependsOn: []string{"follower"}, Run: returns(Result{Status: Unknown, Summary: "no list"})},
		Check{Name: "still_fine", Title: "t", DependsOn: []string{"root"}, Run: returns(Okf("fine"))},
		Check{Name: "warned", Title: "t", DependsOn: []string{"root"}, Run: returns(Warnf("old"))},
		Check{Name: "own", Title: "t", DependsOn: []string{"root"}, Run: returns(Result{Status: Fault, Summary: "expired", Own: true})},
		Check{Name: "other", Title: "t", Run: returns(Faultf("full"))})
	want := []struct {
		status         Status
		summary, cause string
	}{
		{Fault, "refused", ""},
		{Unknown, "depends on root", "root"},
		{Unknown, "depends on root", "root"},
		{OK, "fine", ""},
		{Warning, "old", ""},
		{Fault, "expired", ""},
		{Fault, "full", ""},
	}
	for i, w := range want {
		if o := rep.Checks[i]; o.Status != w.status || o.Summary != w.summary || o.Cause != w.cause {
			t.Errorf("%s: %s %q cause %q, want %+v", o.Name, o.Status, o.Summary, o.Cause, w)
		}
	}
	if ev := rep.Checks[1].Evidence; !slices.Equal(ev, []string{"503", "GET /x"}) {
		t.Errorf("what the follower saw is lost: %q", ev)
	}
	if c := rep.Counts; c != (Counts{OK: 1, Warning: 1, Fault: 3, Unknown: 2}) || rep.Status != Fault {
		t.Errorf("counts %+v, status %s", c, rep.Status)
	}
}

func TestUnknownWithoutAFailedCauseIsAFault(t *testing.T) {
	rep := run(t, Runner{},
		Check{Name: "root", Title: "t", Run: returns(NAf("not here"))},
		Check{Name: "lost", Title: "t", DependsOn: []string{"root"}, Run: returns(Result{Status: Unknown, Summary: "cannot tell"})})
	if o := rep.Checks[1]; o.Status != Fault || o.Summary != "cannot tell" {
		t.Errorf("an unexplained unknown passed silently: %+v", o)
	}
}

func TestReportStatusIsTheWorstOfWhatWasChecked(t *testing.T) {
	for _, c := range []struct {
		rs   []Result
		want Status
	}{
		{[]Result{Okf("a"), NAf("b")}, OK},
		{[]Result{Okf("a"), Warnf("b")}, Warning},
		{[]Result{Warnf("a"), Faultf("b")}, Fault},
		{[]Result{NAf("a"), NAf("b")}, Unknown},
		{nil, Unknown},
	} {
		var checks []Check
		for i, r := range c.rs {
			checks = append(checks, Check{Name: fmt.Sprintf("c%d", i), Title: "t", Run: returns(r)})
		}
		if rep := run(t, Runner{}, checks...); rep.Status != c.want {
			t.Errorf("%v: status %s, want %s", c.rs, rep.Status, c.want)
		}
	}
}

func TestReportJSONHasNoNullsAndKeepsItsFields(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.FixedZone("x", 3600)) }
	rep := run(t, Runner{Now: now},
		Check{Name: "root", Title: "Root", Run: returns(Faultf("gone").Saw("seen").Because("why").Do("run this"))},
		Check{Name: "next", Title: "Next", DependsOn: []string{"root"}, Run: returns(Faultf("too"))})
	rep.ElapsedMS, rep.Checks[0].ElapsedMS, rep.Checks[1].ElapsedMS = 1, 2, 3
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"started_at":"2026-11-22T09:00:00Z","elapsed_ms":1,"status":"fault",` +
		`"counts":{"ok":0,"warning":0,"fault":1,"unknown":1,"not_applicable":0},"checks":[` +
		`{"name":"root","title":"Root","status":"fault","summary":"gone","evidence":["seen"],"impact":"why","fix":["run this"],"elapsed_ms":2},` +
		`{"name":"next","title":"Next","status":"unknown","summary":"depends on root","evidence":["too"],"impact":"","fix":[],"cause":"root","elapsed_ms":3}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestBuildersDoNotShareTheirSlices(t *testing.T) {
	base := Faultf("x").Saw("one")
	a, b := base.Saw("a"), base.Saw("b")
	if !slices.Equal(a.Evidence, []string{"one", "a"}) || !slices.Equal(b.Evidence, []string{"one", "b"}) {
		t.Errorf("a %q, b %q", a.Evidence, b.Evidence)
	}
}

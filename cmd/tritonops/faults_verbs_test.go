package main

import (
	"os"
	"slices"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

// trial is one fault of the lab's Manta and what a run that meets it must end
// with.
type trial struct {
	fault.Fault
	ends ending
}

type ending int

const (
	either  ending = iota // the right end state, or a clear error
	passes                // the right end state: the fault is survived
	noticed               // a clear error or a named fault
)

// verb is a command under trial. ready brings instance and store where the
// trial begins; done is asked whether all ended right; after an error, onward
// goes on when the fault is over, and then done is asked too.
type verb struct {
	name   string
	args   []string
	ready  func(*rig)
	onward func(r *rig, out string)
	done   func(*rig)
	trials []trial
}

// Places in an instance's directory of the store that faults are aimed at.
const (
	anywhere  = "**"
	images    = "**/images/**/file0"
	history   = "**/history/**"
	records   = "**/log/*/*"
	bases     = "**/base/*"
	manifests = "**/manifests/*"
)

func ms(n int) fault.Duration { return fault.Duration(time.Duration(n) * time.Millisecond) }

// passing are the trials of every kind that lasts so short that each verb must
// get over it, and of those that concern nothing a verb relies on.
func passing() []trial {
	return []trial{
		{fault.Fault{Kind: fault.Latency, Delay: ms(20), Count: 30}, passes},
		{fault.Fault{Kind: fault.Status, Count: 1}, passes},
		{fault.Fault{Kind: fault.Throttle, Count: 1}, passes},
		{fault.Fault{Kind: fault.Reset, Count: 2}, passes},
		{fault.Fault{Kind: fault.Truncate, Count: 2}, passes},
		{fault.Fault{Kind: fault.LostAnswer, Count: 2}, passes},
		{fault.Fault{Kind: fault.Stall, Delay: ms(200), Count: 1}, passes},
		{fault.Fault{Kind: fault.Hang, Delay: ms(200), Count: 1}, passes},
		{fault.Fault{Kind: fault.KeyNotPropagated, For: ms(800)}, passes},
		{fault.Fault{Kind: fault.NoContentMD5}, passes},
	}
}

// wrong are the trials of every kind that makes a body look right that is not.
func wrong(at string) []trial {
	var out []trial
	for _, k := range []fault.Kind{fault.Short, fault.Corrupt, fault.Lie} {
		out = append(out, trial{fault.Fault{Kind: k, Path: at}, noticed}, trial{fault.Fault{Kind: k, Path: at, Count: 1}, either})
	}
	return out
}

// broken are the trials of every kind that ends a transfer, each time again.
func broken(at string) []trial {
	return []trial{
		{fault.Fault{Kind: fault.Status, Status: 500, Path: at, Method: "GET"}, noticed},
		{fault.Fault{Kind: fault.Reset, Path: at, Method: "GET", Bytes: 100}, noticed},
		{fault.Fault{Kind: fault.Truncate, Path: at, Bytes: 7}, noticed},
		{fault.Fault{Kind: fault.Hang, Delay: ms(20), Bytes: 7, Path: at}, noticed},
	}
}

// listed are the trials of the kinds that concern the listing of a directory.
func listed(dir string) []trial {
	return []trial{
		{fault.Fault{Kind: fault.EndlessListing, Path: "**/" + dir}, noticed},
		{fault.Fault{Kind: fault.RepeatListing, Path: "**/" + dir}, either},
	}
}

// denied fails one of a verb's requests, at once and for good: about every third,
// up to the last.
func denied(n int) []trial {
	var out []trial
	for skip := 0; skip < n; skip += 1 + skip%4 {
		out = append(out, trial{fault.Fault{Kind: fault.Status, Status: 403, Code: "AuthorizationFailed", Skip: skip}, either})
	}
	return out
}

func verbs() []verb { return []verb{runVerb(), restoreVerb(), verifyVerb(), copyVerb()} }

func runVerb() verb {
	return verb{
		name: "backup run", args: []string{"imgapi", "backup", "run", "--max-delete", "100%"},
		ready: (*rig).change,
		onward: func(r *rig, out string) {
			r.whole(out)
			r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%")
		},
		done: func(r *rig) { r.run([]int{0}, "imgapi", "backup", "verify", "--deep") },
		// What a run reads beside the log is old content, which it copies to the history.
		trials: slices.Concat(passing(), wrong(images), broken(images), listed("log"), denied(44), []trial{
			{fault.Fault{Kind: fault.DiskFull}, noticed},
			{fault.Fault{Kind: fault.Reset, Side: "request", Method: "PUT", Path: images}, noticed},
			{fault.Fault{Kind: fault.Reset, Side: "request", Method: "PUT", Path: records}, noticed},
			{fault.Fault{Kind: fault.LostAnswer, Path: records}, passes},
			{fault.Fault{Kind: fault.LostAnswer, Path: images}, either},
			{fault.Fault{Kind: fault.Corrupt, Path: records}, either},
			{fault.Fault{Kind: fault.EndlessListing, Path: "**/base"}, noticed},
			{fault.Fault{Kind: fault.Status, Method: "PUT", Path: manifests}, noticed},
		}),
	}
}

func restoreVerb() verb {
	return verb{
		name: "restore", args: []string{"imgapi", "restore", "--yes"},
		ready: (*rig).damage, onward: (*rig).resume, done: (*rig).restored,
		trials: slices.Concat(passing(), wrong(images), broken(images), wrong(records), listed("log"), denied(46), []trial{
			{fault.Fault{Kind: fault.Status, Path: records}, noticed},
			{fault.Fault{Kind: fault.DiskFull}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: bases}, either},
			{fault.Fault{Kind: fault.Corrupt, Path: bases}, either},
			{fault.Fault{Kind: fault.EndlessListing, Path: "**/base"}, noticed},
		}),
	}
}

func deepVerify() []string { return []string{"imgapi", "backup", "verify", "--deep"} }

func verifyVerb() verb {
	return verb{
		name: "backup verify", args: deepVerify(),
		ready: func(*rig) {}, onward: func(*rig, string) {}, done: func(r *rig) { r.run([]int{0}, deepVerify()...) },
		trials: slices.Concat(passing(), wrong(images), broken(images)[:1], wrong(records), listed("log"), listed("manifests"), denied(30), []trial{
			{fault.Fault{Kind: fault.DiskFull}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: bases}, noticed},
			{fault.Fault{Kind: fault.Corrupt, Path: bases}, noticed},
		}),
	}
}

func copyVerb() verb {
	copies := []string{"imgapi", "backup", "copy", "--to"} // and a directory of the trial's
	v := verb{
		name: "backup copy", args: copies,
		ready:  func(*rig) {},
		onward: func(r *rig, _ string) { r.run([]int{0}, append(copies, r.copyURL())...) },
		done: func(r *rig) {
			r.run([]int{0}, append(deepVerify(), "--store", r.copyURL())...)
			r.run([]int{0}, append(deepVerify(), "--store", r.copyURL(), "--at", "1")...)
			r.must(os.RemoveAll(r.copyDir()))
		},
		trials: slices.Concat(passing(), wrong(images), broken(images), wrong(records), wrong(bases), wrong(history), listed("log"), denied(60), []trial{
			{fault.Fault{Kind: fault.DiskFull}, either}, // nothing is written to Manta
			{fault.Fault{Kind: fault.Lie, Path: bases, Skip: 1}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: bases, Skip: 1, Count: 1}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: records, Skip: 2, Count: 1}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: "**/format.json", Skip: 1}, noticed},
		}),
	}
	for i := range v.trials { // nothing is written to Manta
		if v.trials[i].Kind == fault.LostAnswer {
			v.trials[i].ends = either
		}
	}
	return v
}

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
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

func verbs() []verb {
	ready := func(r *rig) {}
	run := verb{
		name: "backup run", args: []string{"imgapi", "backup", "run", "--max-delete", "100%"},
		ready:  (*rig).change,
		onward: func(r *rig, _ string) { r.whole(); r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%") },
		done:   func(r *rig) { r.run([]int{0}, "imgapi", "backup", "verify", "--deep") },
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
	restore := verb{
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
	deep := []string{"imgapi", "backup", "verify", "--deep"}
	verify := verb{
		name: "backup verify", args: deep,
		ready: ready, onward: func(r *rig, _ string) {}, done: func(r *rig) { r.run([]int{0}, deep...) },
		trials: slices.Concat(passing(), wrong(images), broken(images)[:1], wrong(records), listed("log"), listed("manifests"), denied(30), []trial{
			{fault.Fault{Kind: fault.DiskFull}, noticed},
			{fault.Fault{Kind: fault.Lie, Path: bases}, noticed},
			{fault.Fault{Kind: fault.Corrupt, Path: bases}, noticed},
		}),
	}
	copies := []string{"imgapi", "backup", "copy", "--to"} // and a directory of the trial's
	copied := verb{
		name: "backup copy", args: copies,
		ready:  ready,
		onward: func(r *rig, _ string) { r.run([]int{0}, append(copies, r.copyURL())...) },
		done: func(r *rig) {
			r.run([]int{0}, append(deep, "--store", r.copyURL())...)
			r.run([]int{0}, append(deep, "--store", r.copyURL(), "--at", "1")...)
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
	for i := range copied.trials {
		if copied.trials[i].Kind == fault.LostAnswer {
			copied.trials[i].ends = either
		}
	}
	return []verb{run, restore, verify, copied}
}

// name is what the subtest of a trial is called.
func (x trial) name() string {
	name := string(x.Kind)
	if x.Path != "" {
		name += " at " + strings.NewReplacer("**/", "", "/*", "").Replace(x.Path)
	}
	if x.Method != "" {
		name += " by " + x.Method
	}
	if x.Count > 0 {
		name += fmt.Sprintf(", %d times", x.Count)
	}
	if x.Skip > 0 {
		name += fmt.Sprintf(", after %d requests", x.Skip)
	}
	return name
}

func TestEveryFaultOfManta(t *testing.T) {
	const workers = 8 // most of a trial is waiting for the next attempt
	first := newRigIn(t, fastDir(t), 5, lab.Config{Instances: workers})
	rigs := make([]*rig, workers)
	for i := range rigs {
		rigs[i] = first.of(fmt.Sprintf("images%d", i), 5).begin()
	}
	type job struct {
		v verb
		x trial
	}
	queue := make(chan job)
	var wg sync.WaitGroup
	for _, r := range rigs {
		wg.Go(func() {
			for j := range queue {
				t.Run(j.v.name+"/"+j.x.name(), func(t *testing.T) { r.in(t).face(j.v, j.x) })
			}
		})
	}
	for _, v := range verbs() {
		first.covers(v)
		for _, x := range v.trials {
			queue <- job{v, x}
		}
	}
	close(queue)
	wg.Wait()
	t.Run("partition", func(t *testing.T) { first.in(t).partition(rigs, fault.Fault{Kind: fault.Partition, For: ms(400)}, 0) })
	t.Run("partition for good", func(t *testing.T) { first.in(t).partition(rigs, fault.Fault{Kind: fault.Partition}, fail.Unreachable) })
	for _, r := range rigs {
		r.deep()
	}
}

// begin makes the first backups: three generations, and a history.
func (r *rig) begin() *rig {
	r.t.Helper()
	r.run([]int{0}, "imgapi", "restore", "--yes")
	for range 2 {
		r.run([]int{0}, "imgapi", "backup", "run")
		r.change()
	}
	r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%")
	return r
}

// covers fails a verb that leaves a kind of fault out.
func (r *rig) covers(v verb) {
	r.t.Helper()
	have := map[fault.Kind]bool{fault.Partition: true} // meets all verbs at once
	for _, k := range imgapid.FaultKinds() {           // of the image server, see there
		have[k.Kind] = true
	}
	for _, x := range v.trials {
		have[x.Kind] = true
	}
	for _, k := range r.lab.Faults().Kinds() {
		if !have[k.Kind] {
			r.t.Errorf("%s: no trial of the fault %s (%s)", v.name, k.Kind, k.Help)
		}
	}
}

// face runs a verb under a fault, and judges its end and what can be made of it.
func (r *rig) face(v verb, x trial) {
	r.t.Helper()
	v.ready(r)
	before := r.tree(r.data)
	x.Service, x.Path = mantad.Service, path.Join("/*/stor", r.name, cmp.Or(x.Path, anywhere))
	f, err := r.lab.Faults().Add(x.Fault)
	r.must(err)
	code, out := r.try(v.command(r)...)
	hits := r.hits(f.ID)
	r.lab.Faults().Remove(f.ID)
	r.t.Logf("%d requests met, exit %d\n%s", hits, code, out)
	switch {
	case hits == 0 && x.ends != either:
		r.t.Errorf("the fault met nothing: %+v", x.Fault)
	case code == 0 && x.ends == noticed:
		r.t.Errorf("nobody noticed")
	case code != 0 && x.ends == passes:
		r.t.Errorf("exit %d", code)
	case code != 0 && !strings.Contains(out, "backup/"):
		r.t.Errorf("exit %d: no object is named", code)
	}
	r.kept(before)
	if code != 0 {
		v.onward(r, out)
	}
	v.done(r)
}

func (v verb) command(r *rig) []string {
	if v.name == "backup copy" {
		return append(slices.Clone(v.args), r.copyURL())
	}
	return v.args
}

func (r *rig) hits(id string) int {
	for _, f := range r.lab.Faults().List() {
		if f.ID == id {
			return f.Hits
		}
	}
	return 0
}

// partition runs every verb while Manta cannot be reached.
func (r *rig) partition(rigs []*rig, f fault.Fault, want fail.Code) {
	r.t.Helper()
	f.Service = mantad.Service
	var children []child
	for i, v := range verbs() {
		v.ready(rigs[i])
	}
	f, err := r.lab.Faults().Add(f)
	r.must(err)
	for i, v := range verbs() {
		children = append(children, rigs[i].start(v.command(rigs[i])...))
	}
	for i, v := range verbs() {
		code, out := r.end(children[i])
		if code != int(want) {
			r.t.Errorf("%s: exit %d, want %d\n%s", v.name, code, want, out)
		}
	}
	r.lab.Faults().Remove(f.ID)
	for i, v := range verbs() {
		if want != 0 {
			v.onward(rigs[i], "")
		}
		v.done(rigs[i])
	}
}

// kept holds that no file of the instance became anything but what it was or what
// it is to be.
func (r *rig) kept(before map[string]string) {
	r.t.Helper()
	after := r.tree(r.data)
	if r.want == nil {
		r.same("the instance's data", after, before)
		return
	}
	for p, b := range after {
		if b != before[p] && b != r.want[p] {
			r.t.Errorf("%s is neither the old nor the new file (%d bytes)", p, len(b))
		}
	}
}

// damage takes the manifests away, loses some image files and spoils others.
func (r *rig) damage() {
	r.t.Helper()
	r.want = r.tree(r.data)
	r.must(os.RemoveAll(filepath.Join(r.data, "manifests")))
	for i, p := range slices.Sorted(maps.Keys(r.want)) {
		switch file := filepath.Join(r.data, p); {
		case !strings.HasPrefix(p, "images/") || i%3 == 2:
		case i%3 == 0:
			r.must(os.WriteFile(file, []byte(strings.ToUpper(r.want[p])), 0o644))
		default:
			r.must(os.RemoveAll(filepath.Dir(file)))
		}
	}
}

// resume goes on with a restore that failed, as its message says.
func (r *rig) resume(out string) {
	r.t.Helper()
	next := r.goOn()
	if next == nil {
		next = []string{"imgapi", "restore", "--yes"}
	} else if out != "" && !strings.Contains(out, "tritonops "+strings.Join(next[:3], " ")) {
		r.t.Errorf("the way on is not told: %s\n%s", next, out)
	}
	r.run([]int{0}, next...)
}

// restored holds that everything is back and that nothing holds the next run.
func (r *rig) restored() {
	r.t.Helper()
	r.same("restored", r.tree(r.data), r.want)
	r.want = nil
	r.run([]int{0}, "imgapi", "backup", "run")
	r.must(os.RemoveAll(filepath.Join(filepath.Dir(r.data), "tritonops", "backup", "restore")))
}

// whole makes sure that what is published can be restored; only the mirror of
// manifests may be behind.
func (r *rig) whole() {
	r.t.Helper()
	out := r.run([]int{0, 3}, "imgapi", "backup", "verify", "--deep", "-j", "-q")
	var v struct {
		Faults []struct{ Code, Path, Text string }
	}
	r.must(json.Unmarshal([]byte(out), &v))
	for _, f := range v.Faults {
		if f.Code != "mirror_differs" {
			r.t.Errorf("published is not whole: %+v", f)
		}
	}
}

// deep proves the newest generation, and that it holds what the disk does.
func (r *rig) deep() {
	r.t.Helper()
	r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
	into := filepath.Join(filepath.Dir(r.data), "into")
	r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
	r.same("restored", r.tree(into), r.tree(r.data))
	r.must(os.RemoveAll(into))
}

func (r *rig) copyDir() string { return filepath.Join(filepath.Dir(r.data), "copy") }
func (r *rig) copyURL() string { return "file://" + r.copyDir() }

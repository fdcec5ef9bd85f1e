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

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
)

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
		var l struct{ Newest int }
		r.must(json.Unmarshal([]byte(r.run([]int{0}, "imgapi", "backup", "list", "-j", "-q")), &l))
		for at := 1; at < l.Newest; at += 1 + l.Newest/8 { // and nothing that was once good is lost
			out := r.run([]int{0, 3}, "imgapi", "backup", "verify", "--at", fmt.Sprint(at))
			if strings.Contains(out, "object_lost") {
				t.Errorf("%s: generation %d of %d\n%s", r.name, at, l.Newest, out)
			}
		}
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

// whole makes sure that what is published can be restored, but for what the run
// has named. Only the mirror of manifests may be behind.
func (r *rig) whole(named string) {
	r.t.Helper()
	out := r.run([]int{0, 3}, "imgapi", "backup", "verify", "--deep", "-j", "-q")
	var v struct {
		Faults []struct{ Code, Path, Text string }
	}
	r.must(json.Unmarshal([]byte(out), &v))
	for _, f := range v.Faults {
		if f.Code != "mirror_differs" && !strings.Contains(named, strings.TrimPrefix(f.Path, "backup/")) {
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

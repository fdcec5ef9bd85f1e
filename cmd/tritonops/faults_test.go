package main

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
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

// denied fails each of a verb's requests in turn, at once and for good, up to the
// given number.
func denied(n int) []trial {
	var out []trial
	for skip := range n {
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
		trials: slices.Concat(passing(), wrong(images), broken(images), listed("log"), denied(20), []trial{
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
		trials: slices.Concat(passing(), wrong(images), broken(images), wrong(records), listed("log"), denied(26), []trial{
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
		trials: slices.Concat(passing(), wrong(images), broken(images)[:1], wrong(records), listed("log"), listed("manifests"), denied(14), []trial{
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
		trials: slices.Concat(passing(), wrong(images), broken(images), wrong(records), wrong(bases), wrong(history), listed("log"), denied(14), []trial{
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
	type job struct {
		verb
		trial
	}
	queue := make(chan job)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			var r *rig
			t.Run(fmt.Sprintf("worker %d", i), func(t *testing.T) { r = first.in(t).of(fmt.Sprintf("images%d", i), 5).begin() })
			for j := range queue {
				t.Run(j.verb.name+"/"+j.trial.name(), func(t *testing.T) { r.in(t).try1(j.verb, j.trial) })
			}
			t.Run(fmt.Sprintf("worker %d in the end", i), func(t *testing.T) { r.in(t).deep() })
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
	first.in(t).of("images0", 0).partitioned(first)
}

// begin makes the first backups: three generations, a history.
func (r *rig) begin() *rig {
	r.t.Helper()
	r.run([]int{0}, "imgapi", "restore", "--yes")
	for range 2 {
		r.run([]int{0}, "imgapi", "backup", "run")
		r.change()
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	return r
}

// change edits some manifests, replaces the file of one image and adds an image.
func (r *rig) change() {
	r.t.Helper()
	r.edit(2)
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	old := strings.TrimSuffix(filepath.Base(names[r.rnd.IntN(len(names))]), ".raw")
	r.fill(old, old)
	r.fill(old, uuid.NewString())
}

// fill makes an image from the manifest of another, or anew: other bytes in its
// first file, and a manifest that says so.
func (r *rig) fill(from, id string) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.data, "manifests", from+".raw"))
	r.must(err)
	var m map[string]any
	r.must(json.Unmarshal(b, &m))
	content := make([]byte, 40_000+r.rnd.IntN(1000))
	for i := range content {
		content[i] = byte(r.rnd.Uint32())
	}
	md, sha := md5.Sum(content), sha1.Sum(content)
	m["uuid"] = id
	file := m["files"].([]any)[0].(map[string]any)
	file["size"], file["sha1"], file["contentMD5"] = len(content), hex.EncodeToString(sha[:]), base64.StdEncoding.EncodeToString(md[:])
	file["compression"] = "none"
	b, err = json.MarshalIndent(m, "", "  ")
	r.must(err)
	dir := filepath.Join(r.data, "images", id[:3], id)
	r.must(os.MkdirAll(dir, 0o755))
	r.must(os.WriteFile(filepath.Join(dir, "file0.new"), content, 0o644))
	r.must(os.Rename(filepath.Join(dir, "file0.new"), filepath.Join(dir, "file0")))
	r.must(os.WriteFile(filepath.Join(r.data, "manifests", id+".raw"), b, 0o644))
}

var _ = []any{context.Background, lab.Up}

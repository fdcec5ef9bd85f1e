package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab"
)

// kill starts the program and kills it after a random part of the time such a
// run last took; it says whether it died of that.
func (r *rig) kill(args ...string) bool {
	r.t.Helper()
	cmd, out := r.command(args...)
	start := time.Now()
	r.must(cmd.Start())
	timer := time.AfterFunc(time.Duration(r.rnd.Int64N(int64(r.took))), func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return true
	}
	r.took = time.Since(start)
	if err != nil && exit.ExitCode() != 0 && exit.ExitCode() != 3 {
		r.t.Fatalf("tritonops %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return false
}

// rounds is how often something is killed: 200 where nothing hurries.
func rounds(t *testing.T) int {
	if s := os.Getenv("TRITONOPS_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("TRITONOPS_CRASH_ROUNDS=%s", s)
		}
		return n
	}
	if testing.Short() {
		return 20
	}
	return 200
}

func TestABackupKilledAtAnyMomentNeverPublishesAnIncompleteGeneration(t *testing.T) {
	r := newRig(t, 40)
	r.run([]int{0}, "imgapi", "restore", "--yes")
	start := time.Now()
	r.run([]int{0}, "imgapi", "backup", "run")
	r.took = time.Since(start)
	died := 0
	for i := range rounds(t) {
		r.edit(5)
		if i%20 == 10 { // a disk whose cache is gone, and image files that are sent again
			r.must(os.RemoveAll(filepath.Join(filepath.Dir(r.data), "tritonops", "backup")))
		}
		if i%20 == 15 {
			_, err := r.lab.Seed(context.Background(), "images0", lab.SeedRequest{Images: 3, SizeDist: "small", Seed: uint64(i + 100), Files: 3})
			r.must(err)
		}
		if r.kill("imgapi", "backup", "run", "--max-delete", "100%") {
			died++
		}
		// Whatever is published is whole. Only the mirror of manifests may be behind.
		out := r.run([]int{0, 3}, "imgapi", "backup", "verify", "-j", "-q")
		var v struct {
			Faults []struct{ Code, Path, Text string }
		}
		r.must(json.Unmarshal([]byte(out), &v))
		for _, f := range v.Faults {
			if f.Code != "mirror_differs" {
				t.Fatalf("round %d: %+v", i, f)
			}
		}
		if i%10 == 9 {
			r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%")
			r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
			into := filepath.Join(filepath.Dir(r.data), "into")
			r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
			r.same("restored", r.tree(into), r.tree(r.data))
			r.must(os.RemoveAll(into))
		}
	}
	t.Logf("%d of %d runs were killed", died, rounds(t))
	if died < rounds(t)/4 {
		t.Errorf("only %d of %d runs were killed: the test proves little", died, rounds(t))
	}
}

func TestARestoreKilledAtAnyMomentLeavesNoFileHalfWritten(t *testing.T) {
	r := newRig(t, 30)
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.run([]int{0}, "imgapi", "backup", "run")
	want := r.tree(r.data)
	files := slices.Sorted(maps.Keys(want))
	restore := []string{"imgapi", "restore", "--yes"}
	start := time.Now()
	r.run([]int{0}, restore...)
	r.took = time.Since(start)
	died := 0
	for i := range rounds(t) {
		// The disk loses some files and another byte of some others.
		damage := map[string]string{}
		for range 6 {
			p := files[r.rnd.IntN(len(files))]
			if r.rnd.IntN(2) == 0 {
				r.must(os.RemoveAll(filepath.Join(r.data, p)))
				continue
			}
			damage[p] = strings.ToUpper(want[p])
			r.must(os.WriteFile(filepath.Join(r.data, p), []byte(damage[p]), 0o644))
		}
		if i%25 == 24 {
			r.must(os.RemoveAll(filepath.Join(r.data, "manifests")))
		}
		cut := restore
		for range 4 { // the run itself, and the attempts to go on with it
			if !r.kill(cut...) {
				break
			}
			died++
			for p, b := range r.tree(r.data) {
				if b != want[p] && b != damage[p] {
					t.Fatalf("round %d: %s is neither the old nor the new file (%d bytes)", i, p, len(b))
				}
			}
			if cut = r.goOn(); cut == nil {
				cut = restore
			}
		}
		if next := r.goOn(); next != nil {
			r.run([]int{0}, next...)
		}
		r.run([]int{0}, restore...)
		r.same("restored", r.tree(r.data), want)
		r.must(os.RemoveAll(filepath.Join(filepath.Dir(r.data), "tritonops", "backup", "restore")))
	}
	t.Logf("%d processes were killed in %d rounds", died, rounds(t))
	if died < rounds(t)/4 {
		t.Errorf("only %d processes were killed: the test proves little", died)
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
}

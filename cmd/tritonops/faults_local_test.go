package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/peers"
)

// A run that waits for a server that never answers ends at once on Ctrl-C, and
// says how to go on if something had begun.
func TestCtrlCWhileMantaIsSilent(t *testing.T) {
	r := newRig(t, 5).begin()
	for _, v := range verbs() {
		for _, x := range []struct {
			fault.Fault
			code fail.Code
		}{
			{fault.Fault{Kind: fault.Stall, Path: "**/format.json"}, fail.Interrupted}, // the first thing that is read
			{fault.Fault{Kind: fault.Hang, Path: images, Bytes: 5}, map[string]fail.Code{"restore": fail.Midway}[v.name]},
			{fault.Fault{Kind: fault.Stall, Path: records, Method: "PUT"}, fail.Interrupted},
		} {
			if x.Method == "PUT" && v.name != "backup run" {
				continue
			}
			t.Run(v.name+"/"+trial{Fault: x.Fault}.name(), func(t *testing.T) {
				r := r.in(t)
				v.ready(r)
				before := r.tree(r.data)
				x.Service, x.Delay, x.Path = mantad.Service, ms(60_000), "/*/stor/"+x.Path
				f, err := r.lab.Faults().Add(x.Fault)
				r.must(err)
				c := r.start(v.command(r)...)
				r.until("Manta is silent", func() bool { return r.hits(f.ID) > 0 })
				r.must(c.Process.Signal(syscall.SIGINT))
				asked := time.Now()
				code, out := r.end(c)
				took := time.Since(asked)
				r.lab.Faults().Clear()
				t.Logf("exit %d after %v\n%s", code, took, out)
				if want := int(x.code); want != 0 && code != want || want == 0 && code != int(fail.Interrupted) {
					t.Errorf("exit %d", code)
				}
				if took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				r.kept(before)
				v.onward(r, out)
				v.done(r)
			})
		}
	}
	r.deep()
}

// The key of the instance is not on the account: a new one may take a while to be
// known everywhere, so a refusal is believed only when it stands.
func TestAKeyThatIsMissingForGoodIsExplained(t *testing.T) {
	t.Parallel() // half a minute of waiting
	r := newRig(t, 3).begin()
	in := r.instance()
	gone, err := r.lab.Manta().RemoveKey(r.lab.State().Account, "", in.KeyID)
	r.must(err)
	if !gone {
		t.Fatal("no such key")
	}
	pub, err := os.ReadFile(filepath.Join(in.Root, in.Key) + ".pub")
	r.must(err)
	var children []child
	for _, v := range verbs() {
		children = append(children, r.start(v.command(r)...))
	}
	for _, c := range children {
		code, out := r.end(c)
		if code == int(fail.Held) && slices.Contains(c.Args, "restore") { // the run beside it holds the lock
			continue
		}
		if code != int(fail.Unreachable) || !strings.Contains(out, strings.TrimSpace(string(pub))) || !strings.Contains(out, "key add") {
			t.Errorf("%s: exit %d\n%s", c.Args[1:], code, out)
		}
	}
	_, err = r.lab.Manta().AddKey(r.lab.State().Account, "", string(pub))
	r.must(err)
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}

func TestAFullLocalDiskLosesNothing(t *testing.T) {
	r := newRig(t, 12).begin()
	in := r.instance()
	small := filepath.Join(filepath.Dir(in.Root), "small")
	r.must(os.Mkdir(small, 0o755))
	mount(t, small, "6m")
	out, err := exec.Command("cp", "-a", filepath.Join(in.Root, "data"), small).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.data = filepath.Join(small, "data", "imgapi")
	key := filepath.Join(small, in.Key)
	r.must(os.MkdirAll(filepath.Dir(key), 0o755))
	for _, ext := range []string{"", ".pub"} {
		b, err := os.ReadFile(filepath.Join(in.Root, in.Key) + ext)
		r.must(err)
		r.must(os.WriteFile(key+ext, b, 0o600))
	}
	r.env = lab.Environ(r.env, []lab.Var{{Name: "TRITONOPS_ROOT", Value: small}})
	filler := filepath.Join(small, "filler")

	r.change()
	before := r.tree(r.data)
	r.fillUp(filler, 0)
	code, text := r.try("imgapi", "backup", "run", "--max-delete", "100%")
	if code != int(fail.Failed) || !strings.Contains(text, "no space left on device") || !strings.Contains(text, small) {
		t.Errorf("backup: exit %d\n%s", code, text)
	}
	r.same("after a backup on a full disk", r.tree(r.data), before)
	r.must(os.Remove(filler))
	r.run([]int{0}, "imgapi", "backup", "run", "--max-delete", "100%")
	r.deep()

	r.damage()
	before = r.tree(r.data)
	r.fillUp(filler, 70_000)
	code, text = r.try("imgapi", "restore", "--yes", "--no-restart")
	if code == 0 || !strings.Contains(text, "no space left on device") || !strings.Contains(text, small) {
		t.Errorf("restore: exit %d\n%s", code, text)
	}
	r.kept(before)
	r.must(os.Remove(filler))
	r.resume(text)
	r.restored()
	r.deep()
}

// mount gives dir a file system of its own of a fixed size.
func mount(t *testing.T, dir, size string) {
	t.Helper()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput()
	switch {
	case err == nil:
		t.Cleanup(func() {
			if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
				t.Errorf("umount %s: %v: %s", dir, err, out)
			}
		})
	case os.Geteuid() == 0 && peers.Required():
		t.Fatalf("mount: %v: %s", err, out)
	default:
		t.Skipf("a small file system cannot be mounted here: %v: %s", err, bytes.TrimSpace(out))
	}
}

// fillUp writes a file until so many bytes are left.
func (r *rig) fillUp(path string, left int) {
	r.t.Helper()
	f, err := os.Create(path)
	r.must(err)
	block := make([]byte, 4096)
	n := 0
	for ; err == nil; n += len(block) {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		r.t.Fatal(err)
	}
	r.must(f.Truncate(int64(max(0, n-len(block)-left))))
	r.must(f.Close())
}

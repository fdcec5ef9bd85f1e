package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
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
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/peers"
)

func (r *rig) instance() *lab.InstanceState {
	s := r.lab.State()
	return s.Instance(r.name)
}

// service gives the instance's image server a command, as an administrator.
func (r *rig) service(verb string) {
	r.t.Helper()
	c, err := lab.Connect(r.lab.State().Dir)
	r.must(err)
	_, err = c.Service(context.Background(), r.name, "imgapi", verb, false)
	r.must(err)
}

func TestEveryFaultOfTheImageServerAgainstARestore(t *testing.T) {
	r := newRigIn(t, fastDir(t), 4, lab.Config{RestartDelay: 50 * time.Millisecond}).begin()
	met := map[fault.Kind]bool{ // by writes to the server only, which a restore never makes: see below
		imgapid.SlowRewrite: true, imgapid.CrashMidWrite: true, fault.LostAnswer: true, fault.DiskFull: true,
		fault.KeyNotPropagated: true, fault.EndlessListing: true, fault.RepeatListing: true, fault.NoContentMD5: true, // of Manta
	}
	for _, x := range []trial{
		{fault.Fault{Kind: fault.Latency, Delay: ms(50)}, passes},
		{fault.Fault{Kind: fault.Status, Path: "/ping", Count: 2}, passes},
		{fault.Fault{Kind: fault.Status, Status: 500, Path: "/images"}, noticed},
		{fault.Fault{Kind: fault.Throttle, Path: "/ping", Count: 1}, passes},
		{fault.Fault{Kind: fault.Reset, Path: "/ping", Count: 2}, passes},
		{fault.Fault{Kind: fault.Reset, Path: "/images", Bytes: 900}, noticed},
		{fault.Fault{Kind: fault.Truncate, Path: "/images"}, noticed},
		{fault.Fault{Kind: fault.Short, Path: "/images"}, noticed},
		{fault.Fault{Kind: fault.Corrupt, Path: "/images"}, either}, // in a description it means nothing
		{fault.Fault{Kind: fault.Lie, Path: "/images"}, either},
		{fault.Fault{Kind: fault.Stall, Delay: ms(200), Path: "/ping", Count: 1}, passes},
		{fault.Fault{Kind: fault.Hang, Delay: ms(200), Path: "/images"}, noticed},
		{fault.Fault{Kind: fault.Partition}, noticed},
		{fault.Fault{Kind: imgapid.Crash, Path: "/ping", Count: 2}, passes},
		{fault.Fault{Kind: imgapid.Crash, Path: "/ping"}, noticed}, // until the restarter gives up
		{fault.Fault{Kind: imgapid.Crash, Path: "/images"}, noticed},
	} {
		met[x.Kind] = true
		t.Run(x.name(), func(t *testing.T) {
			r := r.in(t)
			r.damage()
			x.Service = imgapid.Service
			_, err := r.lab.Faults().Add(x.Fault)
			r.must(err)
			code, out := r.try("imgapi", "restore", "--yes", "--start-wait", "3s")
			r.lab.Faults().Clear()
			t.Logf("exit %d\n%s", code, out)
			switch {
			case code == 0 && x.ends == noticed:
				t.Errorf("nobody noticed")
			case code != 0 && x.ends == passes:
				t.Errorf("exit %d", code)
			case code != 0 && (code != int(fail.Midway) || !strings.Contains(out, "http://127.0.0.1")):
				t.Errorf("exit %d, or the server is not named", code)
			}
			r.same("restored, whatever became of the server", r.tree(r.data), r.want)
			if code != 0 {
				r.service("clear")
				r.resume(out)
			}
			r.restored()
		})
	}
	for _, k := range r.lab.Faults().Kinds() {
		if !met[k.Kind] {
			t.Errorf("no trial of the fault %s (%s)", k.Kind, k.Help)
		}
	}
	t.Run("it does not come back", func(t *testing.T) {
		r := r.in(t)
		r.damage()
		code, out := r.try("imgapi", "restore", "--yes", "--start-cmd", "true", "--start-wait", "1s")
		if code != int(fail.Midway) || !strings.Contains(out, `does not answer 1s after "true"`) {
			t.Errorf("exit %d\n%s", code, out)
		}
		r.service("enable")
		r.resume(out)
		r.restored()
	})
	t.Run("it does not stop", func(t *testing.T) {
		r := r.in(t)
		r.damage()
		before := r.tree(r.data)
		code, out := r.try("imgapi", "restore", "--yes", "--stop-cmd", "echo no such service >&2; exit 7")
		if code != int(fail.Midway) || !strings.Contains(out, "no such service") || !strings.Contains(out, "--stop-cmd") {
			t.Errorf("exit %d\n%s", code, out)
		}
		r.same("not swapped", r.tree(r.data), before)
		r.run([]int{0}, append([]string{"runs", "undo"}, r.goOn()[2:]...)...)
		r.same("undone", r.tree(r.data), before)
		r.run([]int{0}, "imgapi", "restore", "--yes")
		r.restored()
	})
	r.deep()
}

func TestABackupSurvivesWhatTheImageServerDoesToItsManifests(t *testing.T) {
	r := newRigIn(t, fastDir(t), 4, lab.Config{RestartDelay: 50 * time.Millisecond}).begin()
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	file := names[0]
	id := strings.TrimSuffix(filepath.Base(file), ".raw")
	old, err := os.ReadFile(file)
	r.must(err)
	r.service("restart") // it knows the manifests that were added behind its back

	t.Run("slow rewrite", func(t *testing.T) {
		r := r.in(t)
		_, err := r.lab.Faults().Add(fault.Fault{Service: imgapid.Service, Kind: imgapid.SlowRewrite, Delay: ms(250), Count: 1})
		r.must(err)
		done := make(chan error, 1)
		go func() { done <- r.update(id, "slowly") }()
		r.until("the manifest is torn", func() bool { b, err := os.ReadFile(file); return err == nil && len(b) < len(old) })
		r.run([]int{0}, "imgapi", "backup", "run")
		r.must(<-done)
		r.run([]int{0}, "imgapi", "backup", "run")
		r.deep()
	})
	t.Run("crash in the middle of a rewrite", func(t *testing.T) {
		r := r.in(t)
		want := r.tree(r.data)
		_, err := r.lab.Faults().Add(fault.Fault{Service: imgapid.Service, Kind: imgapid.CrashMidWrite, Count: 1})
		r.must(err)
		if err := r.update(id, strings.Repeat("torn ", 50)); err == nil {
			t.Fatal("the server did not crash")
		}
		out := r.run([]int{3}, "imgapi", "backup", "run")
		if !strings.Contains(out, "manifest_unreadable") || !strings.Contains(out, id) || !strings.Contains(out, "keeps its last good version") {
			t.Errorf("the torn manifest is not named:\n%s", out)
		}
		r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
		r.run([]int{0}, "imgapi", "restore", "--yes", "--image", id)
		r.same("healed", r.tree(r.data), want)
		r.run([]int{0}, "imgapi", "backup", "run")
		r.deep()
	})
	t.Run("disk full in the middle of a rewrite", func(t *testing.T) {
		r := r.in(t)
		want := r.tree(r.data)
		_, err := r.lab.Faults().Add(fault.Fault{Service: imgapid.Service, Kind: fault.DiskFull, Count: 1})
		r.must(err)
		err = r.update(id, "does not fit")
		t.Logf("the server: %v", err)
		code, out := r.try("imgapi", "backup", "run")
		t.Logf("exit %d\n%s", code, out)
		r.run([]int{0}, "imgapi", "backup", "verify", "--deep")
		if code == 3 {
			r.run([]int{0}, "imgapi", "restore", "--yes", "--image", id)
			r.same("healed", r.tree(r.data), want)
		}
		r.run([]int{0}, "imgapi", "backup", "run")
		r.deep()
	})
	t.Run("lost answer", func(t *testing.T) {
		r := r.in(t)
		_, err := r.lab.Faults().Add(fault.Fault{Service: imgapid.Service, Kind: fault.LostAnswer, Count: 1})
		r.must(err)
		if r.update(id, "applied all the same") == nil {
			t.Error("the answer was not lost")
		}
		r.run([]int{0}, "imgapi", "backup", "run")
		r.deep()
	})
}

// update changes an image's description through its server, as the operator.
func (r *rig) update(id, text string) error {
	s := r.lab.State()
	b, err := os.ReadFile(s.Operator.Key)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	sum := sha256.Sum256([]byte("date: " + date))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, s.Instance(r.name).LocalURL()+"/images/"+id+"?action=update", strings.NewReader(fmt.Sprintf(`{"description":%q}`, text)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Date", date)
	req.Header.Set("Authorization", fmt.Sprintf(`Signature keyId="%s",algorithm="rsa-sha256",headers="date",signature="%s"`, s.Operator.User, base64.StdEncoding.EncodeToString(sig)))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var said bytes.Buffer
		_, err := said.ReadFrom(res.Body)
		return errors.Join(fmt.Errorf("%s: %s", res.Status, said.String()), err)
	}
	return nil
}

// until waits for a moment that must come.
func (r *rig) until(what string, come func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !come(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waiting until %s", what)
		}
	}
}

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

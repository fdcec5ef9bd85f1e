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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
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
	t.Parallel() // most of it is waiting
	r := newRigIn(t, fastDir(t), 4, lab.Config{RestartDelay: 50 * time.Millisecond}).begin()
	met := map[fault.Kind]bool{ // by writes to the server only, which a restore never makes: see below
		imgapid.SlowRewrite: true, imgapid.CrashMidWrite: true, fault.LostAnswer: true, fault.DiskFull: true,
		fault.KeyNotPropagated: true, fault.EndlessListing: true, fault.RepeatListing: true, fault.NoContentMD5: true, // of Manta
	}
	for _, x := range serverTrials() {
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
	r.deep()
}

func TestAServerThatDoesNotComeBackOrDoesNotStop(t *testing.T) {
	r := newRig(t, 4).begin()
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

func serverTrials() []trial {
	return []trial{
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
	}
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

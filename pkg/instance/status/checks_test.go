package status

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
)

func TestSetupIsFinishedHalfDoneOrNeverRun(t *testing.T) {
	z := newZone(t, 0, "")
	z.remove("var/svc/setup_complete")
	z.expect("setup", health.Fault, "has not run")
	z.write("var/svc/.ran-user-script", "", 0)
	z.write("var/log/setup.log", "one\ntwo\nthree\nfatal: unable to import crontab\n", 0)
	z.expect("setup", health.Fault, "did not finish", "fatal: unable to import crontab", "three")
}

const svcsX = `svc:/smartdc/site/imgapi:default (Triton Image API)
 State: maintenance since Tue Sep  6 22:05:49 2016
Reason: Start method failed repeatedly, last exited with status 1.
   See: http://illumos.org/msg/SMF-8000-KS
Impact: This service is not running.

svc:/site/haproxy:default (HAProxy)
 State: disabled since Tue Sep  6 22:05:49 2016
`

func TestFaultedServicesAreNamed(t *testing.T) {
	z := newZone(t, 0, "")
	z.probe.Commands = commands{"svcs": {Stdout: []byte(svcsX), Exit: 1}}
	z.expect("services", health.Fault, "2 faulted: svc:/smartdc/site/imgapi:default, svc:/site/haproxy:default",
		"Start method failed repeatedly", "svcs -xv svc:/site/haproxy:default")
	// The exit status is not relied on: what svcs prints is a fault.
	z.probe.Commands = commands{"svcs": {Stdout: []byte(svcsX)}}
	z.expect("services", health.Fault, "2 faulted")
	z.probe.Commands = commands{"svcs": {Stderr: []byte("svcs: Could not bind to repository server"), Exit: 2}}
	z.expect("services", health.Fault, "exit status 2", "repository server")
}

func TestAServicesCommandThatWasNamedAndIsNotThereIsAFault(t *testing.T) {
	z := newZone(t, 0, "")
	z.probe.Commands, z.probe.Svcs = Exec{}, []string{"/nonexistent/svcs", "-x"}
	if o, _ := z.run().Outcome("services"); o.Status != health.Fault {
		t.Errorf("%+v", o)
	}
}

func TestPingsJudgeTheState(t *testing.T) {
	for state, want := range map[string]health.Status{
		"": health.OK, "active": health.OK, "readonly": health.Warning, "standby": health.Fault, "initfail": health.Fault, "quiesced": health.Fault,
	} {
		z := newZone(t, 0, "")
		z.public.pong = Pong{Version: "4.13.1", State: state, Reason: "lease lost"}
		more := []string{"lease lost"}
		if want == health.OK {
			more = nil
		}
		z.expect("https_ping", want, "imgapi 4.13.1", more...)
	}
}

func TestAListThatDiffersFromTheDiskIsAFaultWithNames(t *testing.T) {
	z := newZone(t, 4, mantaConfig)
	z.image(10, "active", "local") // dropped in by a restore: not read until a restart
	z.image(11, "unactivated", "local")
	z.remove("data/imgapi/manifests/" + uuidOf(2) + ".raw")
	z.expect("image_list", health.Fault, "1 active on disk are not listed, 1 listed are not active on disk",
		"on disk only: "+uuidOf(10), "listed only: "+uuidOf(2), "svcadm restart imgapi", "4 listed, 4 active on disk")
}

func TestAChangeInProgressIsNoDifference(t *testing.T) {
	z := newZone(t, 2, "")
	z.image(0, "disabled", "local") // disk and server agree, only the list is older
	z.public.images[uuidOf(0)] = "disabled"
	z.image(5, "active", "local")
	late := &lateServer{server: z.public, late: uuidOf(5)}
	z.probe.Public = late
	z.expect("image_list", health.OK, "array of 1 images")
}

// lateServer knows an image that it did not list: it came a moment later.
type lateServer struct {
	*server
	late string
}

func (l *lateServer) ImageState(ctx context.Context, uuid string) (string, error) {
	if uuid == l.late {
		return "active", nil
	}
	return l.server.ImageState(ctx, uuid)
}

func TestAListThatIsNoListIsAFault(t *testing.T) {
	z := newZone(t, 2, "")
	z.public.listErr = errors.New("element 2: not an image: it is no object")
	z.expect("image_list", health.Fault, "no list of images", "element 2")
}

func TestChannelsAreAllLookedAt(t *testing.T) {
	z := newZone(t, 0, `,"channels":[{"name":"dev","description":"d","default":true}]`)
	z.run()
	if z.public.channel != "*" {
		t.Errorf("channel %q", z.public.channel)
	}
}

func TestManifestsThatTheServerCannotUseAreNamed(t *testing.T) {
	z := newZone(t, 2, "")
	z.write("data/imgapi/manifests/"+uuidOf(7)+".raw", `{"v":2,"uuid":"`, 0)
	z.write("data/imgapi/manifests/"+uuidOf(8)+".raw", `{"v":2,"uuid":"`+uuidOf(8)+`","name":"x"}`, 0)
	if err := os.Symlink("/etc/passwd", filepath.Join(z.root, "data/imgapi/manifests", uuidOf(9)+".raw")); err != nil {
		t.Fatal(err)
	}
	z.expect("manifests", health.Fault, "2 cannot be read, 1 would be left out by the server, of 5 looked at", uuidOf(7)+": ", uuidOf(8)+": ", "symbolic link")
	// They are this check's, not the list's.
	z.expect("image_list", health.OK, "array of 2 images")
}

func TestAScanThatTimeCutsShortSaysSoAndJudgesNothing(t *testing.T) {
	z := newZone(t, 3000, mantaConfig)
	r := &run{Probe: z.probe}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	// On a busy machine even the whole time may have run out: then it is an error.
	if s, err := r.scan(ctx); err == nil && (!s.partial || len(s.images) == 3000 || s.broken != nil) {
		t.Errorf("partial %v after %d manifests, broken %q", s.partial, len(s.images), s.broken)
	}
	r.scanned.once.Do(func() {
		r.scanned.v = &scan{partial: true, images: map[imageID]imageState{idOf(uuidOf(1)): active}, active: 1, local: files{n: 1}}
	})
	if o := r.manifests(t.Context()); o.Status != health.Warning || o.Summary != "only 1 were read in the time there was" || len(o.Fix) == 0 {
		t.Errorf("%+v", o)
	}
	if o := r.imageList(t.Context()); o.Status != health.Warning || o.Summary != "an array of 3000 images; not compared with the disk" {
		t.Errorf("%+v", o)
	}
	if o := r.durability(t.Context()); !strings.Contains(strings.Join(o.Evidence, ""), "in the time there was") {
		t.Errorf("%+v", o)
	}
}

func TestWithoutManifestsThereIsNothingToRead(t *testing.T) {
	z := newZone(t, 0, "")
	z.expect("manifests", health.NotApplicable, "no image is on this disk")
	z.expect("image_durability", health.NotApplicable, "no image files")
	z.expect("image_list", health.OK, "array of 0 images")
}

func TestImageFilesOnLocalStorageAreADurabilityWarningWhereMantaStorageIsConfigured(t *testing.T) {
	z := newZone(t, 2, mantaConfig+`,"storageTypes":["manta","local"]`)
	z.image(20, "active", "manta")
	z.public.images[uuidOf(20)] = "active"
	z.expect("image_durability", health.Warning, "2 image files (2.0 KiB) are on this disk", "1 image files (1.0 KiB) are in Manta", "in the backup as of its last run")
	z = newZone(t, 2, mantaConfig)
	z.expect("image_durability", health.OK, "on this disk and in the backup")
	z = newZone(t, 0, mantaConfig+`,"storageTypes":["manta"]`)
	z.image(20, "active", "manta")
	z.expect("image_durability", health.OK, "all 1 image files (1.0 KiB) are in Manta")
}

func TestDiskSpaceWarnsAt80AndFaultsAt90PercentOfBytesOrInodes(t *testing.T) {
	for _, c := range []struct {
		u    Usage
		err  error
		want health.Status
	}{
		{Usage{Used: 79, Available: 21}, nil, health.OK},
		{Usage{Used: 80, Available: 20}, nil, health.Warning},
		{Usage{Used: 89, Available: 11}, nil, health.Warning},
		{Usage{Used: 90, Available: 10}, nil, health.Fault},
		{Usage{Used: 1, Available: 99, Files: 100, FilesFree: 5}, nil, health.Fault},
		{Usage{Used: 1, Available: 99, Files: 10, FilesFree: 50}, nil, health.OK},
		{Usage{}, nil, health.OK},
		{Usage{}, errors.ErrUnsupported, health.NotApplicable},
	} {
		z := newZone(t, 0, "")
		z.probe.Disk = func(string) (Usage, error) { return c.u, c.err }
		z.expect("disk_space", c.want, "")
	}
	if u, err := StatDisk(t.TempDir()); err != nil || u.Used+u.Available == 0 {
		t.Errorf("this machine: %+v, %v", u, err)
	}
}

func TestLogRotationIsExpectedWithinTheHourAndAFewMinutes(t *testing.T) {
	const backup = "var/log/triton/imgapi-backup_images0_20261122T130001.log"
	z := newZone(t, 0, "")
	// 13:02: the stock script would want a file of 13:xx and fault here.
	z.expect("log_rotation", health.OK, "rotated within the last hour", "imgapi: newest 2026-11-22T12:00:03Z, 61 minutes ago")
	z.probe.Now = func() time.Time { return now.Add(4 * time.Minute) }
	z.expect("log_rotation", health.Fault, "not rotated within the last hour: imgapi", "logadm")
	z.probe.Now = func() time.Time { return now }
	z.remove(backup)
	z.expect("log_rotation", health.Fault, "not rotated within the last hour: imgapi-backup", "imgapi-backup_*.log: none")
	z.write("var/svc/setup_complete", "", 10*time.Minute)
	z.expect("log_rotation", health.NotApplicable, "reprovisioned 10 minutes ago")
	z.remove("var/log")
	z.expect("log_rotation", health.Fault, "cannot be read", "no such file")
}

func TestSizesAndAgesReadWell(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 30: "5.0 GiB", 1 << 63: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "in the future", 30 * time.Second: "30 seconds ago", 90 * time.Minute: "90 minutes ago", 30 * time.Hour: "30 hours ago", 72 * time.Hour: "3 days ago"} {
		if got := age(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestCommandsAreRunBoundedAndTheirExitStatusIsNoError(t *testing.T) {
	out, err := Exec{Env: []string{"PATH=/usr/bin:/bin"}}.Run(t.Context(), []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 3"})
	if err != nil || out.Exit != 3 || string(out.Stdout) != "out\n" || string(out.Stderr) != "err\n" {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = Exec{Env: []string{"PATH=/usr/bin:/bin"}}.Run(t.Context(), []string{"/bin/sh", "-c", "head -c 3000000 /dev/zero"})
	if err != nil || len(out.Stdout) != maxCommandOut {
		t.Errorf("%d bytes, %v", len(out.Stdout), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err = (Exec{}).Run(ctx, []string{"/bin/sh", "-c", "sleep 60 & wait"}); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if !strings.Contains(fmt.Sprint(err), "deadline") {
		t.Errorf("%v", err)
	}
}

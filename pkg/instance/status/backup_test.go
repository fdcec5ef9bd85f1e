package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
)

const (
	statusFile = "data/imgapi/run/backup.status"
	lastFile   = "data/tritonops/backup/last.json"
	cronTab    = "var/spool/cron/crontabs/root"
	ownCron    = "17 * * * * /opt/tritonops/bin/imgapiadm backup run -q >>/var/log/triton/imgapi-backup.log 2>&1\n"
)

func TestARestoreThatNeverRanIsTheCauseOfAllBackupFaults(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.remove("data/imgapi/run/restored.marker")
	z.remove(statusFile)
	z.expect("restore_ran", health.Fault, "no restore has ever run", "restored.marker does not exist", "tritonops imgapi restore")
	z.expect("backup_age", health.Unknown, "depends on restore_ran")
	z.expect("backup_result", health.NotApplicable, "no backup has run")
}

func TestAMarkerThatIsNoFileIsAFault(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.remove("data/imgapi/run/restored.marker")
	z.write("data/imgapi/run/restored.marker/x", "", 0)
	z.expect("restore_ran", health.Fault, "marker cannot be read")
}

func TestABackupIsStartedBySomething(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.expect("backup_configured", health.OK, "stock script", "imgapi-standalone-backup -y")
	z.write(cronTab, ownCron, 0)
	z.expect("backup_configured", health.OK, "with this program", "imgapiadm backup run -q")
	z.write(cronTab, "17 * * * * tritonops --root / imgapi backup run\n", 0)
	z.expect("backup_configured", health.OK, "with this program")
	z.write(cronTab, "#"+stockCron, 0)
	z.remove(cronTab)
	z.write(cronTab, "# 17 * * * * imgapi-standalone-backup -y\n", 0)
	z.expect("backup_configured", health.Fault, "nothing starts backups", "has no line that runs a backup", "17 * * * * tritonops imgapi backup run")
	z.public.pong.State = "active"
	z.expect("backup_configured", health.OK, "by the agent")
	z.public.pong.State = ""
	z.remove(cronTab)
	z.expect("backup_configured", health.NotApplicable, "no crontab to look at")
}

func TestTheStockCronLineBesideOursIsAFault(t *testing.T) {
	for name, change := range map[string]func(z *zone){
		"our cron line":   func(z *zone) { z.write(cronTab, stockCron+ownCron, 0) },
		"our last run":    func(z *zone) { z.write(lastFile, `{"finished_at":"2026-11-22T12:17:00Z"}`, 0) },
		"an agent":        func(z *zone) { z.public.pong.State = "active" },
		"a torn last run": func(z *zone) { z.write(lastFile, `{"fin`, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t, 1, mantaConfig)
			change(z)
			z.expect("backup_configured", health.Fault, "stock backup still runs", "imgapi-standalone-backup -y", "behind the log", "crontab -e")
		})
	}
}

func TestTheCrontabCommandIsAskedWhereNamed(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.probe.Crontab = []string{"mycron", "-l"}
	z.cmds["mycron"] = Output{Stdout: []byte(ownCron)}
	z.expect("backup_configured", health.OK, "with this program", "mycron -l")
	z.cmds["mycron"] = Output{Exit: 1, Stderr: []byte("no crontab for root\n")}
	z.expect("backup_configured", health.Fault, "nothing starts backups")
	z.cmds["mycron"] = Output{Exit: 1, Stderr: []byte("crontab: must be privileged\n")}
	z.expect("backup_configured", health.Fault, "crontab cannot be read", "must be privileged")
	delete(z.cmds, "mycron")
	z.expect("backup_configured", health.Fault, "crontab cannot be read", "not found")
}

func TestABackupOlderThanAnHourIsAFault(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.write(statusFile, "0\n", time.Hour)
	z.expect("backup_age", health.OK, "60 minutes ago")
	z.write(statusFile, "0\n", time.Hour+time.Second)
	z.expect("backup_age", health.Fault, "not within the last hour", "backup.status", "tritonops imgapi backup run")
	z.write(lastFile, `{"finished_at":"2026-11-22T13:00:00Z","exit_code":0,"seq":7}`, 0)
	z.write(cronTab, ownCron, 0)
	z.expect("backup_age", health.OK, "2 minutes ago", "last.json")
	z.remove(lastFile)
	z.write(statusFile, "0\n", -time.Hour)
	z.expect("backup_age", health.Warning, "in the future")
	z.remove(statusFile)
	z.expect("backup_age", health.Fault, "no backup has ever run")
	z.write("data/imgapi/run/restored.marker", "restored at 2026-11-22T12:30:00\n", 0)
	z.expect("backup_age", health.NotApplicable, "restored 32 minutes ago: the first backup is not due yet")
	z.write(cronTab, "", 0) // nothing will start it
	z.expect("backup_age", health.Unknown, "depends on backup_configured")
}

func TestAnUnscheduledBackupIsOneFaultNotTwo(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.write(cronTab, "", 0)
	z.write(statusFile, "0\n", 48*time.Hour)
	z.expect("backup_age", health.Unknown, "depends on backup_configured")
	// But late in spite of a schedule that has another fault is its own.
	z.write(cronTab, stockCron+ownCron, 0)
	z.expect("backup_configured", health.Fault, "stock backup still runs")
	z.expect("backup_age", health.Fault, "2 days ago")
}

func TestTheResultOfTheLastBackupIsToldByWhoeverRanLast(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.expect("backup_result", health.OK, "exit status 0", "backup.status")
	z.write(statusFile, "1\n", 44*time.Minute)
	z.expect("backup_result", health.Fault, "exit status 1", "imgapi-backup.log")
	z.write(statusFile, "nonsense\n", 44*time.Minute)
	z.expect("backup_result", health.Fault, "cannot be read")
	z.write(statusFile, "3\n", 44*time.Minute)
	z.write(lastFile, `{"finished_at":"2026-11-22T12:18:00Z","exit_code":3,"seq":12,"error":"one left out","faults":["manifest 0a1b: torn",{"image":"2c3d"},
		{"code":"file_missing","path":"images/2c3/file0","text":"is missing","fix":"tritonops imgapi restore --image 2c3d"}]}`, 0)
	z.expect("backup_result", health.Fault, "published, with something left out", "record 12", "left out: manifest 0a1b: torn", `{"image":"2c3d"}`,
		"one left out", "left out: images/2c3/file0: is missing", "tritonops imgapi restore --image 2c3d")
	// The stock script ran after ours: its number counts.
	z.write(statusFile, "0\n", 2*time.Minute)
	z.expect("backup_result", health.OK, "exit status 0")
	z.write(lastFile, `{"finished_at":7}`, 0)
	z.expect("backup_result", health.Fault, "cannot be read", "last.json")
}

func TestLogUploadIsJudgedLikeTheStockScriptDoes(t *testing.T) {
	const f = "data/imgapi/run/logupload.status"
	z := newZone(t, 1, mantaConfig)
	z.expect("log_upload", health.OK, "60 seconds ago")
	z.write(f, "0\n", 61*time.Minute)
	z.expect("log_upload", health.Fault, "not within the last hour", "tritonlogupload.sh")
	z.write(f, "2\n", time.Minute)
	z.expect("log_upload", health.Fault, "exit status 2")
	z.remove(f)
	z.expect("log_upload", health.Fault, "no log upload has ever run")
	z.write("var/svc/setup_complete", "", 50*time.Minute)
	z.expect("log_upload", health.NotApplicable, "50 minutes ago: the first upload is not due yet")
}

func TestARefusedKeyIsShownWithHowToAddIt(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.manta.err = fmt.Errorf("head /bob/stor/imgapi: 403: %w", ErrAuth)
	z.expect("manta_reachable", health.Fault, "does not accept this instance's key for bob",
		"public key: ecdsa-sha2-nistp256 AAAAE2Vj imgapi-x", "triton -a bob key add -n imgapi-x "+z.root+"/data/imgapi/etc/imgapi-x.id_ecdsa.pub", "some minutes")
	z.remove("data/imgapi/etc/imgapi-x.id_ecdsa.pub")
	z.expect("manta_reachable", health.Fault, "does not accept", "no such file")
	z.probe.MantaKey = "ssh-rsa BBBB x"
	z.expect("manta_reachable", health.Fault, "does not accept", "public key: ssh-rsa BBBB x", "echo 'ssh-rsa BBBB x' | triton -a bob key add -n imgapi-x -")
}

func TestMantaThatIsAwayOrGoneIsTold(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.manta.err = errors.New("dial tcp: no route to host")
	z.expect("manta_reachable", health.Fault, "https://manta.example.com does not answer", "no route to host")
	z.manta.err = fmt.Errorf("404: %w", ErrNotFound)
	z.expect("manta_reachable", health.Fault, "/bob/stor/imgapi does not exist any more", "it is gone")
	z.remove("data/imgapi/run/restored.marker")
	z.expect("manta_reachable", health.OK, "the key is accepted")
	z.probe.Manta, z.probe.MantaErr = nil, errors.New("key: no such file")
	z.expect("manta_reachable", health.Fault, "no client", "key: no such file")
	z.expect("lock_and_instances", health.Unknown, "depends on manta_reachable")
}

func TestLockAndInstancesAreShownOnceTheyExist(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.expect("lock_and_instances", health.NotApplicable, "no agent has run")
	const dir = "/bob/stor/imgapi/run/"
	z.manta.objects = map[string]string{
		dir + "primary.lock": `{"instance":"z0","alias":"images0","epoch":4,"renewed_at":"2026-11-22T13:01:55Z","lease_seconds":60,"nonce":"x"}`,
		dir + "z0.runstate":  `{"instance":"z0","alias":"images0","state":"active","updated_at":"2026-11-22T13:01:55Z"}`,
		dir + "z1.runstate":  `{"state":"standby"}`,
		dir + "other":        `x`,
	}
	z.expect("lock_and_instances", health.OK, "held by images0 z0, 2 instances", "epoch 4, renewed 2026-11-22T13:01:55Z, lease 60 s", "z1 is standby")
	z.manta.objects[dir+"z1.runstate"] = `{"state":"active"}`
	z.expect("lock_and_instances", health.Fault, "2 instances say that they are active")
	z.manta.objects[dir+"z1.runstate"] = `{"state":"standby"}`
	z.manta.objects[dir+"primary.lock"] = `{"instance":"z0","released":true}`
	z.expect("lock_and_instances", health.OK, "released by z0")
	for _, junk := range []string{"", "[]", "{}", strings.Repeat("[", 10_000)} {
		z.manta.objects[dir+"primary.lock"] = junk
		z.expect("lock_and_instances", health.Warning, "cannot be read: primary.lock")
	}
}

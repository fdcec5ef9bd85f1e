package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/instance"
)

func (r *run) restoreRan(context.Context) health.Result {
	path := r.Instance.RestoredMarker()
	at, ok, err := r.Instance.RestoredAt()
	switch {
	case err != nil:
		return health.Faultf("the marker cannot be read").Saw("%v", err).Because("the stock backup does not run without it")
	case ok:
		return health.Okf("last %s, %s", stamp(at), age(r.Now().Sub(at))).Saw("%s", path)
	case r.Instance.Config.Manta == nil:
		return health.NAf("Manta is not configured: there is nothing to restore from")
	}
	return health.Faultf("no restore has ever run").Saw("%s does not exist", path).
		Because("no backup runs before a first restore: an instance that has not taken over the data would wipe the backup of the one before it").
		Do("tritonops imgapi restore   # on an empty Manta area it only marks, and says so")
}

// schedule is what starts backups.
type schedule struct {
	source     string // where it was read; "" when there is nowhere to look
	stock, own []string
	agent      bool // an agent answers on the public address; it backs up by itself
}

var (
	stockBackup = regexp.MustCompile(`\bimgapi-standalone-backup\b`)
	ownBackup   = regexp.MustCompile(`\b(imgapiadm|tritonops\b.*\bimgapi)\b.*\bbackup\s+run\b`)
)

func (r *run) backupConfigured(ctx context.Context) health.Result {
	if r.Instance.Config.Manta == nil {
		return health.NAf("Manta is not configured: there is nowhere to back up to")
	}
	s, err := r.cron.get(ctx, r.schedule)
	switch {
	case err != nil:
		return health.Faultf("the crontab cannot be read").Saw("%v", err).Because("whether backups are started is not known")
	case s.agent:
		return r.competing(s, health.Okf("by the agent, as changes happen"))
	case len(s.own) > 0:
		return r.competing(s, health.Okf("by cron, with this program").Saw("%s: %s", s.source, s.own[0]))
	case len(s.stock) > 0:
		return r.competing(s, health.Okf("by cron, with the stock script").Saw("%s: %s", s.source, s.stock[0]))
	case s.source == "":
		return health.NAf("no agent answers, and there is no crontab to look at below %s", r.Instance.Root)
	}
	return health.Faultf("nothing starts backups").Saw("%s has no line that runs a backup, and no agent answers", s.source).
		Because("what is uploaded from now on is on this disk only").
		Do("crontab -e   # add the following", cronLine)
}

// competing makes a fault of a schedule whose backups destroy one another: the
// stock script rewrites the mirror with --delete, behind the log that our
// backups go by.
func (r *run) competing(s schedule, good health.Result) health.Result {
	if len(s.stock) == 0 {
		return good
	}
	_, err := r.lastRun()
	if taken := s.agent || len(s.own) > 0 || !errors.Is(err, fs.ErrNotExist); !taken {
		return good
	}
	return health.Faultf("the stock backup still runs beside this program's").Saw("%s: %s", s.source, s.stock[0]).
		Because("it changes the mirror behind the log, misses edits that keep a file's size, and deletes from the backup whatever is gone from this disk").
		Do("crontab -e   # replace it by the following, or drop it where that is there or an agent runs", cronLine,
			"tritonops imgapi backup run --verify   # sends again what differs")
}

// cronLine backs up hourly. It does not say imgapiadm: a stock program of that
// name may lie first in the PATH of cron.
const cronLine = "17 * * * * tritonops imgapi backup run -q >>/var/log/triton/imgapi-backup.log 2>&1"

func (r *run) schedule(ctx context.Context) (schedule, error) {
	s := schedule{}
	if p, err := r.publicPing.get(ctx, r.Public.Ping); err == nil && p.State != "" {
		s.agent = true
	}
	text, source, err := r.crontab(ctx)
	if err != nil {
		return s, err
	}
	s.source = source
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case stockBackup.MatchString(line):
			s.stock = append(s.stock, line)
		case ownBackup.MatchString(line):
			s.own = append(s.own, line)
		}
	}
	return s, nil
}

// cronFile is root's crontab on illumos and on Debian alike.
const cronFile = "/var/spool/cron/crontabs/root"

// crontab returns root's crontab and where it was read. With another root than
// "/" the command is not asked: it would tell of this machine, not of the one
// below the root.
func (r *run) crontab(ctx context.Context) (text, source string, err error) {
	argv := r.Crontab
	if len(argv) == 0 {
		path := r.path(cronFile)
		b, err := readSmall(path)
		if err == nil {
			return string(b), path, nil
		}
		if r.Instance.Root != "/" {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return "", "", err
		}
		argv = []string{"crontab", "-l"}
	}
	source = strings.Join(argv, " ")
	out, err := r.Commands.Run(ctx, argv)
	if err != nil {
		return "", source, err
	}
	// An absent crontab is exit 1 with a word on stderr; every other trouble too.
	if e := strings.TrimSpace(string(out.Stderr)); out.Exit != 0 && !strings.Contains(e, "no crontab") && !strings.Contains(e, "can't open your crontab") {
		return "", source, fmt.Errorf("%s: exit status %d: %s", source, out.Exit, e)
	}
	return string(out.Stdout), source, nil
}

// lastRun is what a backup of this program leaves in <state>/backup/last.json.
type lastRun struct {
	FinishedAt time.Time         `json:"finished_at"`
	ExitCode   int               `json:"exit_code"`
	Seq        uint64            `json:"seq"`
	Error      string            `json:"error"`
	Faults     []json.RawMessage `json:"faults"`
}

func (r *run) lastRunPath() string {
	return filepath.Join(r.Instance.StateDir(), "backup", "last.json")
}

func (r *run) lastRun() (lastRun, error) {
	var l lastRun
	b, err := readSmall(r.lastRunPath())
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("%s: %w", r.lastRunPath(), err)
	}
	return l, nil
}

func (r *run) backupAge(ctx context.Context) health.Result {
	if r.Instance.Config.Manta == nil {
		return health.NAf("Manta is not configured: nothing is backed up")
	}
	_, at, ok, err := r.Instance.ReadBackupStatus()
	source := r.Instance.BackupStatus()
	if l, lerr := r.lastRun(); lerr == nil && l.FinishedAt.After(at) {
		at, ok, err, source = l.FinishedAt, true, nil, r.lastRunPath()
	}
	res := r.lastEnded("backup", at, ok, err, BackupAge)
	s, serr := r.cron.get(ctx, r.schedule)
	scheduled := serr == nil && (s.agent || len(s.own)+len(s.stock) > 0)
	if restored, done, _ := r.Instance.RestoredAt(); !ok && err == nil && done && scheduled && r.Now().Sub(restored) < BackupAge {
		return health.NAf("restored %s: the first backup is not due yet", age(r.Now().Sub(restored))).Saw("%s", source)
	}
	if res.Status != health.OK {
		res = res.Because("what was uploaded or changed since is on this disk only").
			Do("tritonops imgapi backup run", "read "+r.path("/var/log/triton/imgapi-backup.log"))
		// Started regularly and yet late: no consequence of how it is scheduled.
		res.Own = ok && scheduled
	}
	return res.Saw("%s", source)
}

// lastEnded judges when something that runs hourly last ended.
func (r *run) lastEnded(what string, at time.Time, ok bool, err error, limit time.Duration) health.Result {
	switch d := r.Now().Sub(at); {
	case err != nil:
		return health.Faultf("the status of the last %s cannot be read", what).Saw("%v", err)
	case !ok:
		return health.Faultf("no %s has ever run", what)
	case d < -time.Minute:
		return health.Warnf("last ended %s, which is in the future: a clock is wrong", stamp(at))
	case d > limit:
		return health.Faultf("last ended %s, %s: not within the last hour", stamp(at), age(d))
	default:
		return health.Okf("last ended %s, %s", stamp(at), age(max(d, 0)))
	}
}

func (r *run) backupResult(context.Context) health.Result {
	if r.Instance.Config.Manta == nil {
		return health.NAf("Manta is not configured: nothing is backed up")
	}
	code, at, ok, err := r.Instance.ReadBackupStatus()
	last, lerr := r.lastRun()
	if lerr != nil && !errors.Is(lerr, fs.ErrNotExist) {
		return health.Faultf("the last result cannot be read").Saw("%v", lerr).Because("whether the last backup was whole is not known")
	}
	// Both are written at the end of a run of ours, the file with more to say
	// last; a newer status alone is the stock script's.
	ours := lerr == nil && !last.FinishedAt.Before(at.Add(-time.Minute))
	if ours {
		code, ok, err = last.ExitCode, true, nil
	}
	switch {
	case err != nil:
		return health.Faultf("the last result cannot be read").Saw("%v", err).Because("whether the last backup was whole is not known")
	case !ok:
		return health.NAf("no backup has run")
	}
	res := health.Okf("exit status 0")
	if code != 0 {
		res = health.Faultf("exit status %d", code).Because("the backup does not hold all that is on this disk").
			Do("read "+r.path("/var/log/triton/imgapi-backup.log"), "tritonops imgapi backup run")
	}
	if code == 3 && ours {
		res.Summary = "published, with something left out (exit status 3)"
	}
	if !ours {
		return res.Saw("%s", r.Instance.BackupStatus())
	}
	res = res.Saw("%s: record %d", r.lastRunPath(), last.Seq)
	if last.Error != "" {
		res = res.Saw("%s", last.Error)
	}
	for _, f := range last.Faults[:min(len(last.Faults), maxEvidence)] {
		text, fix := describeFault(f)
		res = res.Saw("left out: %s", text)
		if fix != "" {
			res = res.Do(fix)
		}
	}
	return res
}

// describeFault reads one thing that a backup left out: an object with path,
// text and fix, or just a text; anything else is shown as it is.
func describeFault(raw json.RawMessage) (text, fix string) {
	var f struct{ Path, Text, Fix string }
	switch {
	case json.Unmarshal(raw, &text) == nil:
		return text, ""
	case json.Unmarshal(raw, &f) != nil || f.Text == "":
		return string(raw), ""
	case f.Path == "":
		return f.Text, f.Fix
	}
	return f.Path + ": " + f.Text, f.Fix
}

func (r *run) logUpload(context.Context) health.Result {
	if r.Instance.Config.Manta == nil {
		return health.NAf("Manta is not configured: there is nowhere to upload logs to")
	}
	code, at, ok, err := r.Instance.ReadLogUploadStatus()
	if since, fresh := r.fresh(); fresh && !ok && err == nil {
		return health.NAf("set up or reprovisioned %s: the first upload is not due yet", age(since))
	}
	res := r.lastEnded("log upload", at, ok, err, LogUploadAge)
	if res.Status == health.OK && code != 0 {
		res = health.Faultf("the last one ended with exit status %d, %s", code, age(r.Now().Sub(at)))
	}
	res = res.Saw("%s", r.Instance.LogUploadStatus())
	if res.Status == health.OK {
		return res
	}
	return res.Because("the logs are lost with this zone's disk, and pile up on it meanwhile").
		Do("crontab -l: look for the line of tritonlogupload.sh", "read "+r.path("/var/log/tritonlogupload.log"))
}

// rotatedName matches <name>_<host>_<time>.log.
var rotatedName = regexp.MustCompile(`^([^_]+)_.*_(\d{8}T\d{6})\.log$`)

// logRotation looks for a rotated log of each kind from the last hour and the
// minutes that rotation takes. The stock script wants one of the current clock
// hour and cries wolf at the turn of every hour.
func (r *run) logRotation(context.Context) health.Result {
	dir := r.Instance.LogDir()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && !r.smartOS() {
		return health.NAf("no %s: not a zone that the stock setup has made", dir)
	}
	if err != nil {
		return health.Faultf("%s cannot be read", dir).Saw("%v", err).Because("logs are not rotated, and not uploaded")
	}
	newest := map[string]time.Time{}
	for _, e := range entries {
		if m := rotatedName.FindStringSubmatch(e.Name()); m != nil {
			if at, err := time.Parse("20060102T150405", m[2]); err == nil && at.After(newest[m[1]]) {
				newest[m[1]] = at
			}
		}
	}
	return r.judgeRotation(dir, newest)
}

func (r *run) judgeRotation(dir string, newest map[string]time.Time) health.Result {
	var late, seen []string
	for _, name := range []string{"imgapi", "imgapi-backup"} {
		at, ok := newest[name]
		switch {
		case !ok:
			late = append(late, name)
			seen = append(seen, fmt.Sprintf("%s/%s_*.log: none", dir, name))
			continue
		case r.Now().Sub(at) > LogRotateAge:
			late = append(late, name)
		}
		seen = append(seen, fmt.Sprintf("%s: newest %s, %s", name, stamp(at), age(max(r.Now().Sub(at), 0))))
	}
	res := health.Okf("rotated within the last hour")
	if since, fresh := r.fresh(); fresh && len(late) > 0 {
		res = health.NAf("set up or reprovisioned %s: the first rotation is not due yet", age(since))
	} else if len(late) > 0 {
		res = health.Faultf("not rotated within the last hour: %s", strings.Join(late, ", ")).
			Because("logs grow on this disk and are not uploaded").
			Do("crontab -l: look for the line of logadm", "read "+r.path("/var/log/logadm.log"), "/usr/sbin/logadm -v")
	}
	for _, line := range seen {
		res = res.Saw("%s", line)
	}
	return res
}

// fresh says whether the zone was set up or reprovisioned so short ago that
// nothing that runs hourly is due yet, and how long ago.
func (r *run) fresh() (since time.Duration, fresh bool) {
	st, err := os.Stat(r.path(setupComplete))
	if err != nil {
		return 0, false
	}
	since = r.Now().Sub(st.ModTime())
	return since, since < LogRotateAge
}

// readSmall reads a plain file of a size that such files have.
func readSmall(path string) ([]byte, error) {
	b, _, err := instance.ReadStable(path, maxSmallFile)
	return b, err
}

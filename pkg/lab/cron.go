package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (z zone) crontab() string { return z.path("var", "spool", "cron", "crontabs", "root") }

// stockCrontab is root's crontab as the stock set-up leaves it.
func stockCrontab() string {
	return `0 5 * * * /opt/local/sbin/pkg_admin fetch-pkg-vulnerabilities >/dev/null 2>&1
0 * * * * /usr/sbin/logadm -v >>/var/log/logadm.log 2>&1
1 * * * * /opt/smartdc/imgapi/tools/standalone/tritonlogupload.sh -a 5 >>/var/log/tritonlogupload.log 2>&1
17 * * * * /opt/smartdc/imgapi/bin/imgapi-standalone-backup -y >>/var/log/triton/imgapi-backup.log 2>&1
`
}

const rotatedStamp = "20060102T150405"

// rotated are the rotated copies of a log, the oldest first.
func (z zone) rotated(name string) ([]string, error) {
	list, err := filepath.Glob(z.path("var", "log", "triton", name+"_"+z.Hostname+"_????????T??????.log"))
	slices.Sort(list)
	return list, err
}

// rotate does what the hourly logadm job does: each log is copied under the
// current time, emptied, and the copy linked into the upload directory with the
// seconds set to 00. A week of copies is kept.
func (z zone) rotate(now time.Time) error {
	var errs []error
	for name, pattern := range map[string]string{
		"imgapi": z.path("var", "svc", "log", "*imgapi*.log"), "imgapi-backup": z.path("var", "log", "triton", "imgapi-backup.log"),
	} {
		logs, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, l := range logs {
			errs = append(errs, z.rotateOne(name, l, now.UTC()))
		}
	}
	return errors.Join(errs...)
}

func (z zone) rotateOne(name, path string, now time.Time) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	base := name + "_" + z.Hostname + "_"
	copied := z.path("var", "log", "triton", base+now.Format(rotatedStamp)+".log")
	if err := os.WriteFile(copied, b, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(path, 0); err != nil {
		return err
	}
	upload := z.path("var", "log", "triton", "upload", base+now.Format("20060102T1504")+"00.log")
	if err := os.Link(copied, upload); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	list, err := z.rotated(name)
	if err != nil || len(list) <= 168 {
		return err
	}
	for _, old := range list[:len(list)-168] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}

// rotatedThisHour says whether the hourly job has run in this hour.
func (z zone) rotatedThisHour(now time.Time) bool {
	for _, name := range []string{"imgapi", "imgapi-backup"} {
		list, err := z.rotated(name)
		if err != nil || !slices.ContainsFunc(list, func(p string) bool {
			return strings.HasPrefix(filepath.Base(p), name+"_"+z.Hostname+"_"+now.UTC().Format("20060102T15"))
		}) {
			return false
		}
	}
	return true
}

// uploadLogs does what the hourly upload job does, over the network and with the
// instance's key, and leaves its exit status where the stock script does.
func (z zone) uploadLogs(ctx context.Context, now time.Time) error {
	conf, err := z.readConfig()
	if err == nil && conf.Manta == nil {
		return nil
	}
	if err == nil {
		err = z.uploadAll(ctx, conf.Manta)
	}
	status := "0\n"
	if err != nil {
		status = "1\n"
	}
	dir := z.data("run")
	if werr := os.MkdirAll(dir, 0o755); werr != nil {
		return errors.Join(err, werr)
	}
	path := filepath.Join(dir, "logupload.status")
	werr := os.WriteFile(path, []byte(status), 0o644)
	return errors.Join(err, werr, os.Chtimes(path, now, now))
}

func (z zone) uploadAll(ctx context.Context, m *zoneManta) error {
	dir := z.path("var", "log", "triton", "upload")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	up, err := newUploader(m.URL, m.User, z.path(m.Key))
	if err != nil {
		return err
	}
	defer up.close()
	for _, e := range entries {
		target, ok := uploadTarget(e.Name())
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := up.put(ctx, "/"+m.User+"/stor/"+m.BaseDir+"/logs/"+target, bytes.TrimSpace(b)); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// uploadTarget maps name_node_20060102T150405.log to name/YYYY/MM/DD/HH/node.log
// for the hour before.
func uploadTarget(name string) (string, bool) {
	parts := strings.Split(strings.TrimSuffix(name, ".log"), "_")
	if len(parts) != 3 || !strings.HasSuffix(name, ".log") {
		return "", false
	}
	t, err := time.Parse(rotatedStamp, parts[2])
	if err != nil {
		return "", false
	}
	return parts[0] + "/" + t.Add(-time.Hour).Format("2006/01/02/15") + "/" + parts[1] + ".log", true
}

// runCron keeps the hourly jobs of one instance going until ctx ends.
func (l *Lab) runCron(ctx context.Context, z zone) {
	for {
		l.hourly(ctx, z)
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Second):
		}
	}
}

// hourly runs the jobs if they have not run in this hour.
func (l *Lab) hourly(ctx context.Context, z zone) {
	now := l.cfg.Now()
	rotated := z.rotatedThisHour(now)
	if !rotated {
		if err := z.rotate(now); err != nil {
			l.cfg.Log.Warn("log rotation", "instance", z.Name, "error", err)
		}
	}
	fi, err := os.Stat(z.data("run", "logupload.status"))
	if rotated && err == nil && now.Sub(fi.ModTime()) < time.Hour {
		return
	}
	if err := z.uploadLogs(ctx, now); err != nil && ctx.Err() == nil {
		l.cfg.Log.Warn("log upload", "instance", z.Name, "error", err)
	}
}

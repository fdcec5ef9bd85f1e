package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/tritonops/tritonops/pkg/health"
)

// The marks that the stock setup leaves: boot/standalone/setup.sh touches the
// first when it has finished, its user-script the second when it was run.
const (
	setupComplete = "/var/svc/setup_complete"
	setupRan      = "/var/svc/.ran-user-script"
	setupLog      = "/var/log/setup.log"
)

func (r *run) setup(context.Context) health.Result {
	done, ran := r.path(setupComplete), r.path(setupRan)
	st, err := os.Stat(done)
	switch {
	case err == nil:
		return health.Okf("finished %s", stamp(st.ModTime())).Saw("%s", done)
	case !r.smartOS():
		return health.NAf("no %s: not a zone that the stock setup has made", r.path("/var/svc"))
	case !errors.Is(err, fs.ErrNotExist):
		return health.Faultf("%s cannot be looked at", done).Saw("%v", err).Because("whether the instance is set up is not known")
	}
	f := health.Faultf("has not run").Saw("neither %s nor %s exists", done, ran)
	if _, err := os.Stat(ran); err == nil {
		f = health.Faultf("began and did not finish").Saw("%s exists, %s does not", ran, done)
		for _, line := range lastLines(r.path(setupLog), 3) {
			f = f.Saw("%s: %s", setupLog, line)
		}
	}
	return f.Because("parts of the instance may be missing: services, cron lines, log rotation").
		Do("read "+r.path(setupLog)+" and what `svcs -L mdata:execute` names", "then run /opt/smartdc/boot/standalone/setup.sh again")
}

// lastLines returns the last n lines of the last 4 KiB of a file, none when it
// cannot be read.
func lastLines(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	buf := make([]byte, min(st.Size(), 4096))
	m, _ := f.ReadAt(buf, st.Size()-int64(len(buf)))
	lines := strings.Split(strings.TrimSpace(string(buf[:m])), "\n")
	return lines[max(0, len(lines)-n):]
}

func (r *run) services(ctx context.Context) health.Result {
	argv := r.Svcs
	if len(argv) == 0 {
		argv = []string{"svcs", "-x"}
	}
	line := strings.Join(argv, " ")
	out, err := r.Commands.Run(ctx, argv)
	switch {
	case errors.Is(err, exec.ErrNotFound) && len(r.Svcs) == 0:
		return health.NAf("no svcs on this machine: its services are not run by SMF")
	case err != nil:
		return health.Faultf("%s did not run", line).Saw("%v", err).Because("the state of the services is not known")
	}
	text := strings.TrimSpace(string(out.Stdout))
	if out.Exit == 0 && text == "" {
		return health.Okf("none is faulted").Saw("%s: no output", line)
	}
	names := faultedServices(text)
	f := health.Faultf("%d faulted: %s", len(names), strings.Join(names, ", "))
	if len(names) == 0 {
		f = health.Faultf("%s: exit status %d", line, out.Exit)
		if e := strings.TrimSpace(string(out.Stderr)); e != "" {
			f = f.Saw("%s", e)
		}
	}
	for _, l := range evidenceLines(text, 3*maxEvidence) {
		f = f.Saw("%s", l)
	}
	for _, n := range names[:min(len(names), maxEvidence)] {
		f = f.Do("svcs -xv " + n)
	}
	return f.Because("what the service does is not done, and services that depend on it are not started")
}

// faultedServices finds the FMRIs that head the blocks of svcs -x.
func faultedServices(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if fmri, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, "svc:") {
			names = append(names, fmri)
		}
	}
	return names
}

// evidenceLines are the lines of a text with words in them, at most n.
func evidenceLines(text string, n int) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(lines) == n {
			return append(lines, "...")
		}
		lines = append(lines, line)
	}
	return lines
}

func (r *run) diskSpace(context.Context) health.Result {
	dir := r.Instance.DataDir()
	u, err := r.Disk(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return health.NAf("%s: not known how to ask this system for free space", dir)
	}
	if err != nil {
		return health.Faultf("%s cannot be looked at", dir).Saw("%v", err).Because("how much room is left is not known")
	}
	bytes := percent(u.Used, u.Used+u.Available)
	inodes := percent(u.Files-min(u.Files, u.FilesFree), u.Files)
	text := fmt.Sprintf("%d %% used, %s free", bytes, size(u.Available))
	res := health.Okf("%s", text)
	switch worst := max(bytes, inodes); {
	case worst >= DiskFault:
		res = health.Faultf("%s", text)
	case worst >= DiskWarn:
		res = health.Warnf("%s", text)
	}
	res = res.Saw("%s: %s used of %s", dir, size(u.Used), size(u.Used+u.Available))
	if u.Files > 0 {
		res = res.Saw("%d %% of %d inodes used", inodes, u.Files)
	}
	if res.Status == health.OK {
		return res
	}
	return res.Because("a disk that fills up during an upload ends the stock server, and leaves half-written manifests").
		Do("find what takes the room: du -sk "+dir+"/* | sort -n",
			"uploads that failed are never removed by the server: find "+r.Instance.ImagesDir()+" -name 'file0.*' -mtime +1")
}

// percent is rounded down, so that 90 means at least 90; 0 of 0 is 0.
func percent(part, whole uint64) uint64 {
	if whole == 0 {
		return 0
	}
	return uint64(float64(part) / float64(whole) * 100)
}

// size is a number of bytes for people.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// Exec runs commands of this machine. Env is their whole environment; nil is
// that of this process.
type Exec struct{ Env []string }

// Run implements [Commands]. Output beyond 1 MiB is cut. It ends soon after ctx
// does, also when the command has left children behind.
func (x Exec) Run(ctx context.Context, argv []string) (Output, error) {
	var stdout, stderr capped
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = x.Env, &stdout, &stderr, waitDelay
	err := cmd.Run()
	out := Output{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes()}
	var status *exec.ExitError
	if errors.As(err, &status) && status.Exited() {
		out.Exit, err = status.ExitCode(), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", argv[0], ctx.Err())
	}
	return out, err
}

// capped keeps the first bytes and drops the rest. The buffer is not embedded:
// its ReadFrom would go past Write.
type capped struct{ buf bytes.Buffer }

// Write never fails, so that a chatty command is not stopped.
func (c *capped) Write(p []byte) (int, error) {
	c.buf.Write(p[:min(len(p), maxCommandOut-c.buf.Len())])
	return len(p), nil
}

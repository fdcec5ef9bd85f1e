package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Detach starts binary with args, which must bring up the lab in dir, in a
// session of its own, with its output in dir/lab.log, and returns once that very
// process answers on the control socket. When it ends before that, the error
// tells the last it said and has its exit code.
func Detach(ctx context.Context, dir, binary string, args []string) (*Status, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(paths{dir}.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if st, err := answers(ctx, dir, cmd.Process.Pid); err == nil {
			return st, nil
		}
		select {
		case err := <-ended:
			return nil, stillborn(dir, from, err)
		case <-ctx.Done():
			// ours, and it has not come up: nobody else knows of it
			return nil, errors.Join(context.Cause(ctx), cmd.Process.Signal(syscall.SIGTERM))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, dir string, pid int) (*Status, error) {
	if _, err := os.Stat(paths{dir}.state()); err != nil {
		return nil, err
	}
	c, err := Connect(dir)
	if err != nil {
		return nil, err
	}
	st, err := c.Status(ctx)
	if err == nil && st.PID != pid {
		err = fmt.Errorf("answered by process %d", st.PID)
	}
	return st, err
}

// stillborn is the error of a lab that ended before it was up: its last line.
func stillborn(dir string, from int64, err error) error {
	code := fail.Failed
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		code = fail.Code(exit.ExitCode())
	}
	b, rerr := os.ReadFile(paths{dir}.log())
	if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return errors.Join(err, rerr)
	}
	said := string(bytes.TrimSpace(b[min(from, int64(len(b))):]))
	var hints []string
	text := ""
	for _, line := range strings.Split(said, "\n") {
		if h, ok := strings.CutPrefix(line, "hint: "); ok {
			hints = append(hints, h)
		} else if line != "" {
			text = line
		}
	}
	if _, rest, ok := strings.Cut(text, ": "); ok {
		text = rest // the program's name
	}
	ferr := fail.New(code, "%s", text)
	for _, h := range hints {
		ferr = fail.Hint(ferr, "%s", h)
	}
	return ferr
}

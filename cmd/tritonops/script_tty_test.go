package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdTTY runs a program with an operator at a terminal.
func cmdTTY(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 3, "tty N DIALOGUE PROGRAM ARGS...")
	dialogue := ts.ReadFile(args[1])
	path, err := lookPath(ts.Getenv("PATH"), args[2])
	ts.Check(err)
	ctrl, tty, err := pty.Open()
	ts.Check(err)
	ts.Check(pty.Setsize(ctrl, &pty.Winsize{Rows: 40, Cols: 100}))

	cmd := exec.Command(path, args[3:]...)
	cmd.Args[0] = args[2]
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environ(ts)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, ts.Stdout(), tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	ts.Check(tty.Close())

	s := &screen{ctrl: ctrl}
	shown := make(chan struct{})
	go func() { defer close(shown); s.read() }()
	stuck := s.talk(dialogue)
	if stuck != "" {
		_ = cmd.Process.Kill() // the failure below is the one to report
	}
	err = cmd.Wait()
	<-shown // the terminal ends with its last user
	_ = ctrl.Close()
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(s.text()), 0o644))
	ts.Logf("[screen]\n%s", s.text())
	if stuck != "" {
		ts.Fatalf("%q never appeared", stuck)
	}
	if got := exitCode(ts, err); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// screen is what a program has written to its terminal.
type screen struct {
	ctrl *os.File
	mu   sync.Mutex
	buf  bytes.Buffer
}

// read collects until the terminal is gone, and answers cursor queries.
func (s *screen) read() {
	b := make([]byte, 4096)
	for {
		n, err := s.ctrl.Read(b)
		s.mu.Lock()
		s.buf.Write(b[:n])
		s.mu.Unlock()
		if bytes.Contains(b[:n], []byte("\x1b[6n")) {
			_, _ = io.WriteString(s.ctrl, "\x1b[1;1R") // a terminal that is gone has no cursor
		}
		if err != nil {
			return
		}
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.buf.String(), "\r\n", "\n")
}

// talk types the keys of a dialogue; it returns the text that never came.
func (s *screen) talk(dialogue string) string {
	from := 0
	for line := range strings.Lines(dialogue) {
		text, keys, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue
		}
		keys, err := strconv.Unquote(`"` + keys + `"`)
		if err != nil {
			return "a dialogue without " + err.Error()
		}
		found := -1
		for end := time.Now().Add(20 * time.Second); found < 0; time.Sleep(10 * time.Millisecond) {
			found = strings.Index(s.text()[from:], text)
			if found < 0 && time.Now().After(end) {
				return text
			}
		}
		from += found + len(text)
		time.Sleep(30 * time.Millisecond) // the program shows a prompt before it switches the terminal
		if _, err := io.WriteString(s.ctrl, keys); err != nil {
			return text + ": " + err.Error()
		}
	}
	return ""
}

// environ is the script's environment, as far as programs need it.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, key := range []string{
		"PATH", "HOME", "TERM", "TZ", "LC_ALL", "NO_COLOR", "WORK", "TMPDIR", "TRITONOPS_ROOT", "TRITONOPS_PEERS",
		"MANTA_URL", "MANTA_USER", "MANTA_KEY_ID", "MANTA_TLS_INSECURE", "IMGAPI_URL", "SSH_AUTH_SOCK",
	} {
		if v := ts.Getenv(key); v != "" {
			env = append(env, key+"="+v)
		}
	}
	return env
}

func lookPath(path, name string) (string, error) {
	for dir := range strings.SplitSeq(path, ":") {
		file := dir + "/" + name
		if st, err := os.Stat(file); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tritonops/tritonops/pkg/peers"
)

func want(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// exitCode tells the code of a program that ran; anything else is fatal.
func exitCode(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	ts.Fatalf("%v", err)
	return -1
}

func number(ts *testscript.TestScript, s string, base int) int {
	n, err := strconv.ParseInt(s, base, 32)
	ts.Check(err)
	return int(n)
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "code N PROGRAM ARGS...")
	if got, n := exitCode(ts, ts.Exec(args[1], args[2:]...)), number(ts, args[0], 10); got != n {
		ts.Fatalf("exit code %d, want %d", got, n)
	}
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "json FILE PATH [WANT]")
	var v any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	ts.Check(dec.Decode(&v))
	v, ok := at(v, strings.Split(args[1], "."))
	if !ok {
		ts.Fatalf("%s: no %s", args[0], args[1])
	}
	if s, isString := v.(string); len(args) > 2 && fmt.Sprint(v) != args[2] && (!isString || s != args[2]) {
		ts.Fatalf("%s: %s is %v, want %s", args[0], args[1], v, args[2])
	}
}

// at follows a path of keys and indexes; "len" is the length of a list.
func at(v any, path []string) (any, bool) {
	for _, key := range path {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[key]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			switch {
			case key == "len":
				v = len(x)
			case err != nil || i < 0 || i >= len(x):
				return nil, false
			default:
				v = x[i]
			}
		default:
			return nil, false
		}
	}
	return v, true
}

func cmdNorm(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "norm FILE")
	text := strings.ReplaceAll(ts.ReadFile(args[0]), ts.Getenv("WORK"), "$WORK")
	for _, r := range [][2]string{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?`, "TIME"},
		{`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`, "UUID"},
		{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
		{`("elapsed_ms": )\d+`, "${1}0"},
		{`\b\d+(\.\d+)?(ns|µs|ms|s)\b`, "DURATION"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "waitfor FILE [REGEXP]")
	re := regexp.MustCompile("(?m)" + strings.Join(args[1:], " "))
	var last string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if last = string(b); err == nil && re.Match(b) {
			return
		}
	}
	ts.Fatalf("%s: nothing matches %q after 30s, only:\n%s", args[0], re, last)
}

func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "mode FILE OCTAL")
	st, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got, n := int(st.Mode().Perm()), number(ts, args[1], 8); got != n {
		ts.Fatalf("%s: mode %o, want %o", args[0], got, n)
	}
}

// condition adds [peer:NAME] to testscript's conditions.
func condition(cond string) (bool, error) {
	name, ok := strings.CutPrefix(cond, "peer:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	found := peers.Has(name)
	if !found && peers.Required() {
		return false, fmt.Errorf("peer %s is missing: run `make peers`", name)
	}
	return found, nil
}

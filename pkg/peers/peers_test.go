package peers

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// outcome records what Need and Package did to the test that called them.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (o *outcome) Helper()               {}
func (o *outcome) Skipf(string, ...any)  { o.skipped = true; runtime.Goexit() }
func (o *outcome) Fatalf(string, ...any) { o.failed = true; runtime.Goexit() }

func ask(t *testing.T, f func(testing.TB)) *outcome {
	o := &outcome{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); f(o) }()
	<-done
	return o
}

func TestAMissingPeerSkipsUnlessPeersAreRequired(t *testing.T) {
	t.Setenv("TRITONOPS_PEERS", t.TempDir())
	for _, required := range []bool{false, true} {
		t.Setenv("TRITONOPS_REQUIRE_PEERS", map[bool]string{true: "1"}[required])
		for name, f := range map[string]func(testing.TB){
			"program": func(tb testing.TB) { Need(tb, "no-such-program-here") },
			"package": func(tb testing.TB) { Package(tb, "no-such-package") },
		} {
			if o := ask(t, f); o.skipped == required || o.failed != required {
				t.Errorf("%s, required %v: skipped %v, failed %v", name, required, o.skipped, o.failed)
			}
		}
	}
}

func TestAPeerInTheNodeDirectoryWinsOverPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TRITONOPS_PEERS", dir)
	if err := os.MkdirAll(filepath.Join(dir, ".bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, ".bin", "sh")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Need(t, "sh"); got != want {
		t.Errorf("Need = %s, want %s", got, want)
	}
	if got := Need(t, "cat"); !filepath.IsAbs(got) {
		t.Errorf("Need(cat) = %q, not absolute", got)
	}
}

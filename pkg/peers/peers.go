// Package peers finds the real programs that tests compare tritonops with:
// npm's manta tools, tmux, curl, xz, ssh-agent. It is for tests only.
//
// A test that needs a peer starts with
//
//	mls := peers.Need(t, "mls")
//
// and is skipped, with a line saying what to install, where the peer is
// missing. With TRITONOPS_REQUIRE_PEERS=1 (as .ci/run sets it) a missing peer
// fails the test instead, so that nothing is skipped there unseen.
//
// npm packages are looked up in the directory TRITONOPS_PEERS names, a
// node_modules directory that `make peers` fills; everything else on PATH.
package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need returns the absolute path of the program called name: the one in
// $TRITONOPS_PEERS/.bin if there is one, otherwise the one on PATH. A missing
// program skips the test, or fails it where peers are required.
func Need(t testing.TB, name string) string {
	t.Helper()
	path := find(name)
	if path == "" {
		missing(t, name)
	}
	return path
}

// Has says whether the program called name is there.
func Has(name string) bool { return find(name) != "" }

func find(name string) string {
	if dir := os.Getenv("TRITONOPS_PEERS"); dir != "" {
		path := filepath.Join(dir, ".bin", name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	return path
}

// Package returns the directory of the npm package called name, for a script
// that node is to require. It skips or fails as [Need] does.
func Package(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(os.Getenv("TRITONOPS_PEERS"), name)
	if st, err := os.Stat(path); os.Getenv("TRITONOPS_PEERS") == "" || err != nil || !st.IsDir() {
		missing(t, "npm package "+name)
		return ""
	}
	return path
}

// Required says whether missing peers must fail tests.
func Required() bool { return os.Getenv("TRITONOPS_REQUIRE_PEERS") == "1" }

func missing(t testing.TB, what string) {
	t.Helper()
	const format = "peer %s is missing: run `make peers`, then `make test` (which sets TRITONOPS_PEERS)"
	if Required() {
		t.Fatalf(format, what)
	}
	t.Skipf(format, what)
}

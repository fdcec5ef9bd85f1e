package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab"
)

// labBlocks are the ```sh blocks of a page that begin with "# lab".
func labBlocks(page string) []string {
	var blocks []string
	for i, part := range strings.Split(page, "```") {
		if text, ok := strings.CutPrefix(part, "sh\n# lab\n"); ok && i%2 == 1 {
			blocks = append(blocks, text)
		}
	}
	return blocks
}

func TestTheGuidesCommandsRunInALabAsTheyStand(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := labBlocks(string(page))
	if n := strings.Count(string(page), "\n# lab\n"); len(blocks) < 10 || n != len(blocks) {
		t.Fatalf("%d blocks found of %d marked ones", len(blocks), n)
	}
	dir := fastDir(t)
	if _, err := exec.LookPath("tritonops"); err != nil { // TestMain puts it there
		t.Fatal(err)
	}
	t.Cleanup(func() { // a block that failed leaves the lab running
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := lab.Down(ctx, filepath.Join(dir, "tritonops-lab")); err != nil && !os.IsNotExist(err) {
			t.Logf("lab down: %v", err)
		}
	})
	// One shell for all: what one section exports, the next ones use.
	script := "set -eu\n" + strings.Join(blocks, "")
	cmd := exec.Command("sh", "-xc", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "TZ=UTC", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "tritonops-lab")); !os.IsNotExist(err) {
		t.Errorf("the lab's directory is still there: %v", err)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
)

// rig is a lab in this process and the program as a child of it, so that the
// program can be killed and the world stays.
type rig struct {
	t    *testing.T
	bin  string
	lab  *lab.Lab
	name string // of the instance
	data string
	env  []string
	rnd  *rand.Rand
	took time.Duration // by the last run that was left alone

	secrets []string          // what no message may hold
	want    map[string]string // the tree that a restore is to bring back, nil if none is due
}

func newRig(t *testing.T, images int) *rig { return newRigIn(t, fastDir(t), images, lab.Config{}) }

// fastDir is a directory in memory where there is one: thousands of syncs
// otherwise.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tritonops-test-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newRigIn makes a rig in dir, its lab by cfg as far as that says anything.
func newRigIn(t *testing.T, dir string, images int, cfg lab.Config) *rig {
	t.Helper()
	r := &rig{t: t, bin: filepath.Join(dir, "tritonops"), rnd: rand.New(rand.NewPCG(1, 2))}
	self, err := os.Executable()
	r.must(err)
	r.must(os.Symlink(self, r.bin))
	cfg.Dir, cfg.Instances, cfg.Binary = filepath.Join(dir, "lab"), max(1, cfg.Instances), r.bin
	r.lab, err = lab.Up(context.Background(), cfg)
	r.must(err)
	t.Cleanup(func() { r.lab.Close() })
	return r.of("images0", images)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// of is the rig for another instance of the lab, seeded with images.
func (r *rig) of(instance string, images int) *rig {
	r.t.Helper()
	_, err := r.lab.Seed(context.Background(), instance, lab.SeedRequest{Images: images, SizeDist: "small", Seed: 1, Files: images})
	r.must(err)
	s := r.lab.State()
	vars, err := s.Env(instance)
	r.must(err)
	c := *r
	c.name, c.env, c.rnd = instance, lab.Environ(os.Environ(), vars), rand.New(rand.NewPCG(1, 2))
	in := s.Instance(instance)
	c.data = filepath.Join(in.Root, "data", "imgapi")
	key, err := os.ReadFile(filepath.Join(in.Root, in.Key))
	r.must(err)
	pub, err := os.ReadFile(filepath.Join(in.Root, in.Key) + ".pub")
	r.must(err)
	c.secrets = []string{"PRIVATE KEY", "signature=\""}
	for line := range strings.Lines(string(key)) { // a private key in OpenSSH form begins with the public one
		if line = strings.TrimSpace(line); len(line) > 20 && !strings.Contains(string(pub), line[:20]) && !strings.Contains(line, "-----") {
			c.secrets = append(c.secrets, line)
		}
	}
	return &c
}

// in is the rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	c := *r
	c.t = t
	return &c
}

func (r *rig) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(r.bin, args...)
	cmd.Env = r.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// run wants one of the exit codes and returns what was printed.
func (r *rig) run(codes []int, args ...string) string {
	r.t.Helper()
	code, out := r.try(args...)
	if !slices.Contains(codes, code) {
		r.t.Fatalf("tritonops %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// patience is far more than any run of these tests may take: one that takes
// longer hangs.
const patience = 90 * time.Second

// try runs the program to its end and returns its exit code and what it printed.
func (r *rig) try(args ...string) (int, string) {
	r.t.Helper()
	return r.end(r.start(args...))
}

// child is the program at work.
type child struct {
	*exec.Cmd
	out *bytes.Buffer
}

func (r *rig) start(args ...string) child {
	r.t.Helper()
	cmd, out := r.command(args...)
	r.must(cmd.Start())
	return child{cmd, out}
}

// end waits for a child, and judges whatever it said.
func (r *rig) end(c child) (int, string) {
	r.t.Helper()
	hung := time.AfterFunc(patience, func() { c.Process.Signal(syscall.SIGQUIT) }) // its goroutines tell where
	err := c.Wait()
	args := strings.Join(c.Args[1:], " ")
	if !hung.Stop() {
		r.t.Fatalf("tritonops %s: no end after %v\n%s", args, patience, c.out)
	}
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		r.must(err)
	}
	r.civil(args, code, c.out.String())
	return code, c.out.String()
}

var (
	trace      = regexp.MustCompile(`(?m)^goroutine \d+|panic:|runtime error|\.go:\d+`)
	bareStatus = regexp.MustCompile(`(?m):\s+(?:HTTP )?[45]\d\d\s*(?:$|:|\()`)
	errorLine  = regexp.MustCompile(`(?m)^tritonops: \S`)
	control    = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]`)
)

// civil holds what every message of the program holds: a documented exit code,
// no stack trace, no bare status code, no secret, nothing that a terminal would
// obey; and on failure an error line.
func (r *rig) civil(args string, code int, out string) {
	r.t.Helper()
	say := func(what string) { r.t.Errorf("tritonops %s: exit %d: %s\n%s", args, code, what, out) }
	if !slices.ContainsFunc(fail.Table(), func(row fail.Row) bool { return int(row.Code) == code }) {
		say("exit code not documented")
	}
	if m := trace.FindString(out); m != "" {
		say("a stack trace: " + m)
	}
	if m := bareStatus.FindString(out); m != "" {
		say("a bare status code: " + m)
	}
	if m := control.FindString(out); m != "" {
		say(fmt.Sprintf("a control character: %q", m))
	}
	for _, s := range r.secrets {
		if strings.Contains(out, s) {
			say("a secret")
		}
	}
	if code != 0 && code != 3 && !errorLine.MatchString(out) {
		say("no error line")
	}
}

// tree is every manifest and image file, leftovers of uploads excepted.
func (r *rig) tree(dir string) map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for _, top := range []string{"manifests", "images"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "file0.") {
				return err
			}
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			out[rel] = string(b)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	return out
}

func (r *rig) same(what string, got, want map[string]string) {
	r.t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			r.t.Fatalf("%s: %s differs (%d bytes, want %d)", what, p, len(got[p]), len(want[p]))
		}
	}
	if len(got) != len(want) {
		r.t.Fatalf("%s: %d files, want %d", what, len(got), len(want))
	}
}

// edit changes some descriptions, as the server would.
func (r *rig) edit(n int) {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	for range n {
		p := names[r.rnd.IntN(len(names))]
		b, err := os.ReadFile(p)
		r.must(err)
		var m map[string]any
		r.must(json.Unmarshal(b, &m))
		m["description"] = fmt.Sprintf("edit %d", r.rnd.Int())
		b, err = json.MarshalIndent(m, "", "  ")
		r.must(err)
		r.must(os.WriteFile(p, b, 0o644))
	}
}

// goOn is the command that takes up an unfinished run, nil if there is none.
func (r *rig) goOn() []string {
	r.t.Helper()
	var runs []struct{ ID, State string }
	r.must(json.Unmarshal([]byte(r.run([]int{0}, "runs", "list", "-j", "-q")), &runs))
	for _, run := range runs {
		if run.State != "done" && run.State != "undone" {
			return []string{"runs", "resume", run.ID, "--yes"}
		}
	}
	return nil
}

// change edits some manifests, replaces the file of one image and adds an image.
func (r *rig) change() {
	r.t.Helper()
	r.edit(2)
	names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
	r.must(err)
	old := strings.TrimSuffix(filepath.Base(names[r.rnd.IntN(len(names))]), ".raw")
	r.fill(old, old)
	r.fill(old, uuid.NewString())
}

// fill makes an image from the manifest of another, or anew: other bytes in its
// first file, and a manifest that says so.
func (r *rig) fill(from, id string) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.data, "manifests", from+".raw"))
	r.must(err)
	var m map[string]any
	r.must(json.Unmarshal(b, &m))
	content := make([]byte, 40_000+r.rnd.IntN(1000))
	for i := range content {
		content[i] = byte(r.rnd.Uint32())
	}
	md, sha := md5.Sum(content), sha1.Sum(content)
	m["uuid"] = id
	file := m["files"].([]any)[0].(map[string]any)
	file["size"], file["sha1"], file["contentMD5"] = len(content), hex.EncodeToString(sha[:]), base64.StdEncoding.EncodeToString(md[:])
	file["compression"] = "none"
	b, err = json.MarshalIndent(m, "", "  ")
	r.must(err)
	dir := filepath.Join(r.data, "images", id[:3], id)
	r.must(os.MkdirAll(dir, 0o755))
	r.must(os.WriteFile(filepath.Join(dir, "file0.new"), content, 0o644))
	r.must(os.Rename(filepath.Join(dir, "file0.new"), filepath.Join(dir, "file0")))
	r.must(os.WriteFile(filepath.Join(r.data, "manifests", id+".raw"), b, 0o644))
}

package procedure

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests below kill this test binary, started again as a child, with SIGKILL.

// slowly makes the files procedure take its time, so that a kill can hit
// anything, and write each file in two parts, so that it can hit the middle.
func slowly(f *files) func(p *Plan) {
	return func(p *Plan) {
		for i := range p.Steps {
			name, apply := p.Steps[i].Name, p.Steps[i].Apply
			p.Steps[i].Satisfied = func(context.Context, *Run) (bool, any, error) {
				b, err := os.ReadFile(f.path(name))
				if errors.Is(err, fs.ErrNotExist) {
					return false, nil, nil
				}
				return strings.HasSuffix(string(b), "."), name, err
			}
			p.Steps[i].Apply = func(ctx context.Context, r *Run) (any, error) {
				out, err := apply(ctx, r)
				if err != nil {
					return nil, err
				}
				time.Sleep(time.Millisecond)
				h, err := os.OpenFile(f.path(name), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					return nil, err
				}
				defer h.Close()
				_, err = h.WriteString(".")
				return out, err
			}
		}
	}
}

var childFiles = []string{"a", "b", "c", "d", "e", "f"}

// child runs what KILL_CHILD says: verb, runs directory, working directory, and
// optionally a point and a step at which it kills itself.
func child(t *testing.T, spec string) {
	var args []string
	if err := json.Unmarshal([]byte(spec), &args); err != nil {
		t.Fatal(err)
	}
	f := &files{dir: args[2], names: childFiles, target: "files"}
	f.change = slowly(f)
	e := &Engine{Dir: args[1]}
	if len(args) == 5 {
		e.Inject = func(p Point, step string) error {
			if string(p) == args[3] && step == args[4] {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
	}
	os.Stdout.WriteString("ready\n")
	if args[0] == "start" {
		_, err := run(t.Context(), t, e, f.plan())
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	verb := map[string]func(context.Context, string, Rebuild, Asker) (*Result, error){"resume": e.Resume, "undo": e.Undo}[args[0]]
	if _, err := verb(t.Context(), only(t, e).ID, f.rebuild, yes{}); err != nil {
		t.Fatal(err)
	}
}

// spawn starts a child and returns once it is about to begin.
func spawn(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtRandomARunIsFinishedOrUndoneByTheNextProcess$")
	cmd.Env = append(os.Environ(), "KILL_CHILD="+string(spec))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatalf("child: %q, %v", l, err)
	}
	return cmd
}

// killedWorld is a files procedure that children work on.
func killedWorld(t *testing.T) (*files, *Engine) {
	t.Helper()
	dir := t.TempDir()
	f := &files{dir: filepath.Join(dir, "work"), names: childFiles, target: "files"}
	f.change = slowly(f)
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return f, &Engine{Dir: filepath.Join(dir, "runs")}
}

// checkEnd wants the files of a done run whole, of any other none.
func checkEnd(t *testing.T, f *files, state State) {
	t.Helper()
	want := ""
	if state == Done {
		want = strings.Join(childFiles, " ")
	}
	if got := f.there(t); got != want {
		t.Errorf("%s: files %q, want %q", state, got, want)
	}
	for i, n := range childFiles {
		before := ""
		if i > 0 {
			before = childFiles[i-1]
		}
		if b, _ := os.ReadFile(f.path(n)); state == Done && string(b) != before+"." {
			t.Errorf("file %s: %q, want %q", n, b, before+".")
		}
	}
}

func TestKilledAtRandomARunIsFinishedOrUndoneByTheNextProcess(t *testing.T) {
	if spec := os.Getenv("KILL_CHILD"); spec != "" {
		child(t, spec)
		return
	}
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	ends := map[State]int{}
	killed, nothing, usual := 0, 0, undisturbed(t)
	for i := range rounds {
		f, e := killedWorld(t)
		verbs := [][]string{{"start"}, {"start", "resume"}, {"start", "undo"}}[i%3]
		for _, verb := range verbs {
			if all, err := e.List(); err != nil || verb != "start" && (len(all) == 0 || all[0].State == Done || all[0].State == Undone) {
				break
			}
			cmd := spawn(t, verb, e.Dir, f.dir)
			kill := time.AfterFunc(time.Duration(rnd.Int64N(int64(usual*5/4))), func() { _ = cmd.Process.Kill() })
			if err := cmd.Wait(); err != nil {
				killed++
			}
			kill.Stop()
		}
		all, err := e.List()
		if err != nil || len(all) > 1 {
			t.Fatalf("round %d: %+v, %v", i, all, err)
		}
		if len(all) == 0 {
			nothing++
			checkEnd(t, f, Undone)
			continue
		}
		state := goOn(t, e, f, all[0], i)
		ends[state]++
		checkEnd(t, f, state)
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(e.Dir, all[0].ID, journalName))
			t.Fatalf("round %d, after %v:\n%s", i, verbs, b)
		}
	}
	t.Logf("%d rounds: %d processes killed, %d times before there was a run, ends %v, an undisturbed run took %s", rounds, killed, nothing, ends, usual)
	// A short series may end all one way by chance.
	if killed < rounds/4 || !testing.Short() && (ends[Done] == 0 || ends[Undone] == 0) {
		t.Errorf("too few kills hit: %d of %d, ends %v", killed, rounds, ends)
	}
}

// undisturbed is the time a child takes that nobody kills, the median of three.
func undisturbed(t *testing.T) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 3 {
		f, e := killedWorld(t)
		cmd := spawn(t, "start", e.Dir, f.dir)
		began := time.Now()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		checkEnd(t, f, Done)
	}
	slices.Sort(took)
	return took[1]
}

// goOn finishes what was left, forward or back.
func goOn(t *testing.T, e *Engine, f *files, s Summary, round int) State {
	t.Helper()
	verb := e.Resume
	if s.State == Midway && round%2 == 0 {
		verb = e.Undo
	}
	if s.State == Done || s.State == Undone {
		return s.State
	}
	res, err := verb(t.Context(), s.ID, f.rebuild, yes{})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	return res.State
}

func TestKilledAtEveryPointARunIsResumedAndUndone(t *testing.T) {
	steps := []string{"a", "c", "f"}
	for _, step := range steps {
		for _, p := range []Point{BeforeApply, AfterApply, AfterJournal} {
			for _, undo := range []bool{false, true} {
				f, e := killedWorld(t)
				if err := spawn(t, "start", e.Dir, f.dir, string(p), step).Wait(); err == nil {
					t.Fatalf("%s of %s: not killed", p, step)
				}
				verb := e.Resume
				if undo {
					verb = e.Undo
				}
				res, err := verb(t.Context(), only(t, e).ID, f.rebuild, yes{})
				if err != nil {
					t.Fatalf("%s of %s: %v", p, step, err)
				}
				checkEnd(t, f, res.State)
			}
		}
		for _, p := range []Point{BeforeUndo, AfterUndo, AfterUndoJournal} {
			f, e := killedWorld(t)
			if _, err := run(t.Context(), t, e, f.plan()); err != nil {
				t.Fatal(err)
			}
			if err := spawn(t, "undo", e.Dir, f.dir, string(p), step).Wait(); err == nil {
				t.Fatalf("%s of %s: not killed", p, step)
			}
			res, err := e.Resume(t.Context(), only(t, e).ID, f.rebuild, yes{})
			if err != nil || res.State != Undone {
				t.Fatalf("%s of %s: %+v, %v", p, step, res, err)
			}
			checkEnd(t, f, res.State)
		}
	}
}

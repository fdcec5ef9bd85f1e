package proctest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/procedure"
)

// demo is a procedure on a directory: it makes a subdirectory, replaces a
// configuration file and remembers the old one, writes a file under a name it
// draws, and enters that name in a list.
type demo struct{ dir string }

func (d demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d demo) plan(context.Context, json.RawMessage) (procedure.Plan, error) {
	return procedure.Plan{
		Kind: "demo", Target: "demo", Title: "set the demo up", Params: json.RawMessage(`{}`),
		Steps: []procedure.Step{d.there(), d.mkdir(), d.config(), d.write(), d.enter()},
	}, nil
}

func (d demo) there() procedure.Step {
	return procedure.Step{
		Name: "base", Line: "make sure that the base directory is there",
		Satisfied: func(context.Context, *procedure.Run) (bool, any, error) {
			_, err := os.Stat(d.dir)
			return err == nil, nil, nil
		},
		Apply: func(context.Context, *procedure.Run) (any, error) { return nil, os.Mkdir(d.dir, 0o700) },
		Undo:  func(context.Context, *procedure.Run) error { return os.RemoveAll(d.dir) },
	}
}

func (d demo) mkdir() procedure.Step {
	return procedure.Step{
		Name: "directory", Line: "make the directory sub",
		Preflight: func(context.Context, *procedure.Run) error {
			if _, err := os.Stat(d.path("sub")); err == nil {
				return errors.New("sub: exists")
			}
			return nil
		},
		Apply: func(context.Context, *procedure.Run) (any, error) {
			return nil, os.MkdirAll(d.path("sub"), 0o700)
		},
		Undo: func(context.Context, *procedure.Run) error { return os.RemoveAll(d.path("sub")) },
	}
}

func (d demo) config() procedure.Step {
	return procedure.Step{
		Name: "config", Line: "replace config",
		Apply: func(_ context.Context, r *procedure.Run) (any, error) {
			if !r.HasArtifact("config") {
				old, err := os.ReadFile(d.path("config"))
				if err != nil {
					return nil, procedure.Unchanged(err)
				}
				if err := r.Artifact("config", old); err != nil {
					return nil, err
				}
			}
			return nil, os.WriteFile(d.path("config"), []byte("new\n"), 0o600)
		},
		Undo: func(_ context.Context, r *procedure.Run) error {
			old, err := r.ReadArtifact("config")
			if errors.Is(err, procedure.ErrNoArtifact) {
				return nil
			}
			if err != nil {
				return err
			}
			return os.WriteFile(d.path("config"), old, 0o600)
		},
	}
}

// write draws a name: a lost answer can be found again only by looking.
func (d demo) write() procedure.Step {
	found := func() (string, bool) {
		m, _ := filepath.Glob(d.path("sub", "f-*"))
		if len(m) == 0 {
			return "", false
		}
		return filepath.Base(m[0]), true
	}
	return procedure.Step{
		Name: "file", Line: "write a file under sub",
		Satisfied: func(context.Context, *procedure.Run) (bool, any, error) {
			name, ok := found()
			return ok, name, nil
		},
		Apply: func(context.Context, *procedure.Run) (any, error) {
			if name, ok := found(); ok {
				return name, nil
			}
			f, err := os.CreateTemp(d.path("sub"), "f-*")
			if err != nil {
				return nil, err
			}
			return filepath.Base(f.Name()), f.Close()
		},
		Verify: func(_ context.Context, r *procedure.Run) error {
			var name string
			if err := r.Output("file", &name); err != nil {
				return err
			}
			_, err := os.Stat(d.path("sub", name))
			return err
		},
		Undo: func(_ context.Context, r *procedure.Run) error {
			var name string
			if err := r.Output("file", &name); errors.Is(err, procedure.ErrNoOutput) {
				found, ok := found()
				if !ok {
					return nil
				}
				name = found
			}
			err := os.Remove(d.path("sub", name))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		},
	}
}

func (d demo) enter() procedure.Step {
	return procedure.Step{
		Name: "list", Line: "enter the file in the list",
		Apply: func(ctx context.Context, r *procedure.Run) (any, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			var name string
			if err := r.Output("file", &name); err != nil {
				return nil, err
			}
			old, err := os.ReadFile(d.path("list"))
			if err != nil || bytes.Contains(old, []byte(name)) {
				return nil, err
			}
			return nil, os.WriteFile(d.path("list"), append(old, name+"\n"...), 0o600)
		},
		Undo: func(_ context.Context, r *procedure.Run) error {
			return os.WriteFile(d.path("list"), []byte("first\n"), 0o600)
		},
	}
}

// fixture sets the demo's world up; change may spoil its plan.
func fixture(t *testing.T, change func(d demo, p *procedure.Plan)) Fixture {
	t.Helper()
	d := demo{t.TempDir()}
	for name, text := range map[string]string{"config": "old\n", "list": "first\n"} {
		if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Fixture{
		Params: json.RawMessage(`{}`),
		Rebuild: func(ctx context.Context, raw json.RawMessage) (procedure.Plan, error) {
			p, err := d.plan(ctx, raw)
			if change != nil {
				change(d, &p)
			}
			return p, err
		},
		Fingerprint: d.fingerprint,
	}
}

func (d demo) fingerprint() (string, error) {
	var b strings.Builder
	names := map[string]string{}
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(d.dir, path)
		if base := filepath.Base(rel); strings.HasPrefix(base, "f-") {
			names[base] = "f-random"
			rel = filepath.Join(filepath.Dir(rel), "f-random")
		}
		fmt.Fprintf(&b, "%s %v", rel, e.IsDir())
		if !e.IsDir() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", text)
		}
		b.WriteString("\n")
		return nil
	})
	out := b.String()
	for from, to := range names {
		out = strings.ReplaceAll(out, from, to)
	}
	if strings.Contains(out, "f-") != strings.Contains(out, "f-random") {
		return out, errors.New("a name in the list without its file")
	}
	return out, err
}

func TestTheDemoPassesTheMatrix(t *testing.T) {
	Matrix(t, func(t *testing.T) Fixture { return fixture(t, nil) })
}

func TestADemoThatCannotGoBackPassesTheMatrix(t *testing.T) {
	Matrix(t, func(t *testing.T) Fixture {
		return fixture(t, func(_ demo, p *procedure.Plan) {
			p.Steps[3].Undo, p.Steps[3].Irreversible = nil, true
		})
	})
}

// failures runs the named scenarios and returns what they found.
func failures(t *testing.T, change func(d demo, p *procedure.Plan), names []string) (map[string]error, error) {
	t.Helper()
	make := func(t *testing.T) Fixture { return fixture(t, change) }
	b, err := baseline(t, make)
	if err != nil {
		return nil, err
	}
	found := map[string]error{}
	for _, sc := range scenarios(b) {
		if !slices.Contains(names, sc.name) {
			continue
		}
		if err := sc.try(t, b, make); err != nil {
			found[sc.name] = err
		}
	}
	return found, nil
}

// broken is a spoilt step and the scenarios that must find it.
type broken struct {
	change func(d demo, p *procedure.Plan)
	want   []string
}

func brokenApplies() map[string]broken {
	return map[string]broken{
		"an apply that is not idempotent": {
			func(d demo, p *procedure.Plan) {
				p.Steps[4].Apply = func(_ context.Context, r *procedure.Run) (any, error) {
					old, err := os.ReadFile(d.path("list"))
					if err != nil {
						return nil, err
					}
					return nil, os.WriteFile(d.path("list"), append(old, "another\n"...), 0o600)
				}
			},
			[]string{"5 list/apply twice", "5 list/crash after the effect, then resume", "5 list/answer of apply lost, then resume"},
		},
		"an apply that cannot be repeated": {
			func(d demo, p *procedure.Plan) {
				p.Steps[1].Apply = func(context.Context, *procedure.Run) (any, error) {
					return nil, os.Mkdir(d.path("sub"), 0o700)
				}
			},
			[]string{"2 directory/apply twice", "2 directory/crash after the effect, then resume"},
		},
		"an old value overwritten by a repeated apply": {
			func(d demo, p *procedure.Plan) {
				p.Steps[2].Apply = func(_ context.Context, r *procedure.Run) (any, error) {
					old, err := os.ReadFile(d.path("config"))
					if err != nil {
						return nil, err
					}
					if err := os.WriteFile(d.path("config.old"), old, 0o600); err != nil {
						return nil, err
					}
					return nil, os.WriteFile(d.path("config"), []byte("new\n"), 0o600)
				}
				p.Steps[2].Undo = func(context.Context, *procedure.Run) error {
					err := os.Rename(d.path("config.old"), d.path("config"))
					if errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					return err
				}
			},
			[]string{"3 config/crash after the effect, then undo", "3 config/apply twice"},
		},
	}
}

func brokenUndos() map[string]broken {
	return map[string]broken{
		"an undo that leaves something": {
			func(d demo, p *procedure.Plan) { p.Steps[2].Undo = procedure.NothingToUndo },
			[]string{"3 config/crash after the effect, then undo", "3 config/undo twice", "undo when done"},
		},
		"an undo that cannot be repeated": {
			func(d demo, p *procedure.Plan) {
				p.Steps[1].Undo = func(context.Context, *procedure.Run) error { return os.Remove(d.path("sub")) }
			},
			[]string{"2 directory/undo twice", "2 directory/crash after the undo, then resume", "2 directory/apply fails, then undo"},
		},
		"an undo that needs an output that may be missing": {
			func(d demo, p *procedure.Plan) {
				undo := p.Steps[3].Undo
				p.Steps[3].Undo = func(ctx context.Context, r *procedure.Run) error {
					var name string
					if err := r.Output("file", &name); err != nil {
						return err
					}
					return undo(ctx, r)
				}
			},
			[]string{"4 file/apply fails, then undo", "4 file/answer of apply lost, then undo"},
		},
	}
}

func TestTheMatrixCatchesBrokenSteps(t *testing.T) {
	all := brokenApplies()
	maps.Copy(all, brokenUndos())
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			found, err := failures(t, tc.change, tc.want)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tc.want {
				if found[w] == nil {
					t.Errorf("scenario %q passed, or does not exist; failed: %v", w, found)
				}
			}
		})
	}
}

func TestTheMatrixRefusesABlindFingerprint(t *testing.T) {
	_, err := baseline(t, func(t *testing.T) Fixture {
		f := fixture(t, nil)
		f.Fingerprint = func() (string, error) { return "fine", nil }
		return f
	})
	if err == nil || !strings.Contains(err.Error(), "hide every fault") {
		t.Errorf("err = %v", err)
	}
}

func TestTheMatrixRefusesAFingerprintThatIsNeverTheSame(t *testing.T) {
	n := 0
	_, err := baseline(t, func(t *testing.T) Fixture {
		f := fixture(t, nil)
		f.Fingerprint = func() (string, error) { n++; return fmt.Sprint(n), nil }
		return f
	})
	if err == nil || !strings.Contains(err.Error(), "in another fixture") {
		t.Errorf("err = %v", err)
	}
}

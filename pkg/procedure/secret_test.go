package procedure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/fail"
)

type vault map[string]string

func (v vault) Secret(_ context.Context, ref SecretRef) (string, error) {
	s, ok := v[ref.Name]
	if !ok {
		return "", fail.New(fail.Refused, "no terminal: give %s", ref.Flag)
	}
	return s, nil
}

const (
	secretPassword = `pa"ss wörd/1`
	secretNumber   = "4711081542"
)

// telltale is a procedure that lets its secrets slip wherever it can.
func telltale(f *files, failing bool) func(p *Plan) {
	return func(p *Plan) {
		p.Secrets = []SecretRef{{Name: "password", From: FromPrompt, Flag: "--password-file"}, {Name: "pin", From: FromPrompt}}
		apply := p.Steps[0].Apply
		p.Steps[0].Apply = func(ctx context.Context, r *Run) (any, error) {
			pw, err := r.Secret("password")
			if err != nil {
				return nil, err
			}
			r.Detail("logging in with %s", pw)
			r.Progress().Note("again: " + url.QueryEscape(pw))
			if _, err := apply(ctx, r); err != nil {
				return nil, err
			}
			if failing {
				return nil, fmt.Errorf("ldap: bind with %s refused (%s)", pw, base64.StdEncoding.EncodeToString([]byte(pw)))
			}
			return map[string]any{"used": pw, pw: true, "n": json.Number(secretNumber), "list": []string{"x" + pw}, "m": 5}, nil
		}
	}
}

func TestSecretsNeverReachDiskEventsOrErrors(t *testing.T) {
	for _, failing := range []bool{false, true} {
		f, e, rec := newFiles(t, "a"), newEngine(t), &recorder{}
		e.Observer, e.Secrets = rec, vault{"password": secretPassword, "pin": secretNumber}
		f.change = telltale(f, failing)
		_, err := run(t.Context(), t, e, f.plan())
		if (err != nil) != failing {
			t.Fatal(err)
		}
		texts := []string{fmt.Sprint(err), fmt.Sprintf("%+v", rec.events)}
		werr := filepath.WalkDir(e.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			texts = append(texts, string(b))
			return err
		})
		if werr != nil {
			t.Fatal(werr)
		}
		all := strings.Join(texts, "\n")
		for _, bad := range append(forms(secretPassword), secretNumber) {
			if strings.Contains(all, bad) {
				t.Errorf("%q is in\n%s", bad, all)
			}
		}
		if !strings.Contains(all, Redacted) {
			t.Error("nothing was redacted: the test tests nothing")
		}
		if !failing {
			var out map[string]any
			if err := json.Unmarshal(only(t, e).Steps[0].Output, &out); err != nil || out["m"] != 5.0 || out["n"] != Redacted {
				t.Errorf("output %v, %v", out, err)
			}
		}
	}
}

func TestARunWhoseSecretNobodyGivesDoesNotBegin(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	f.change = telltale(f, false)
	_, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, `secret "password": nobody to ask`)
	e.Secrets = vault{"pin": secretNumber}
	_, err = run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, "give --password-file")
	e.Secrets = vault{"pin": secretNumber, "password": ""}
	_, err = run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Refused, "empty")
	if all, _ := e.List(); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

func TestAResumeAsksForSecretsAgain(t *testing.T) {
	f, e, on := newFiles(t, "a"), newEngine(t), true
	e.Secrets, e.Inject = vault{"password": secretPassword, "pin": secretNumber}, failAt("a", &on)
	f.change = telltale(f, false)
	res, err := run(t.Context(), t, e, f.plan())
	wantCode(t, err, fail.Midway)
	later := &Engine{Dir: e.Dir}
	_, err = later.Resume(t.Context(), res.ID, f.rebuild, yes{})
	wantCode(t, err, fail.Refused, `secret "password"`)
	later = &Engine{Dir: e.Dir, Secrets: e.Secrets}
	if _, err = later.Resume(t.Context(), res.ID, f.rebuild, yes{}); err != nil {
		t.Error(err)
	}
}

func TestAPlanThatHoldsASecretIsNotRecorded(t *testing.T) {
	f, e := newFiles(t, "a"), newEngine(t)
	e.Secrets = vault{"password": secretPassword}
	f.change = func(p *Plan) {
		p.Secrets = []SecretRef{{Name: "password", From: FromPrompt}}
		p.Params, _ = json.Marshal(map[string]string{"password": secretPassword})
	}
	_, err := run(t.Context(), t, e, f.plan())
	if err == nil || !strings.Contains(err.Error(), `holds the value of secret "password"`) || strings.Contains(err.Error(), secretPassword) {
		t.Errorf("%v", err)
	}
	if all, _ := e.List(); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

func TestArtifactsAreKeptOnceAndChecked(t *testing.T) {
	f, e := newFiles(t, "a", "b"), newEngine(t)
	f.change = func(p *Plan) {
		p.Steps[0].Apply = func(_ context.Context, r *Run) (any, error) {
			if _, err := r.ReadArtifact("old"); !errors.Is(err, ErrNoArtifact) {
				t.Errorf("before: %v", err)
			}
			for range 2 {
				if err := r.Artifact("old", []byte("one")); err != nil {
					return nil, err
				}
			}
			if err := r.Artifact("old", []byte("two")); err == nil || !strings.Contains(err.Error(), "kept already with other content") {
				t.Errorf("overwritten: %v", err)
			}
			if err := r.Artifact("bad\nname", nil); err == nil {
				t.Error("a name with a newline was accepted")
			}
			return nil, os.WriteFile(f.path("a"), nil, 0o600)
		}
		p.Steps[1].Apply = func(_ context.Context, r *Run) (any, error) {
			b, err := r.ReadArtifact("old")
			if err != nil || string(b) != "one" {
				return nil, fmt.Errorf("%q, %w", b, err)
			}
			path := filepath.Join(e.Dir, r.ID(), artifactsDir, only(t, e).Artifacts[0].SHA256)
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			for _, spoil := range []func() error{
				func() error { return os.WriteFile(path, []byte("onf"), 0o600) },
				func() error { return os.WriteFile(path, []byte("one more"), 0o600) },
				func() error { return os.Remove(path) },
			} {
				if err := spoil(); err != nil {
					return nil, err
				}
				if _, err := r.ReadArtifact("old"); !errors.Is(err, ErrDamaged) {
					t.Errorf("spoilt: %v", err)
				}
			}
			return nil, os.WriteFile(f.path("b"), nil, 0o600)
		}
	}
	if _, err := run(t.Context(), t, e, f.plan()); err != nil {
		t.Fatal(err)
	}
}

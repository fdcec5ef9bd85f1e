package procedure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Origin says where a secret is taken from.
type Origin string

// The origins of a secret.
const (
	FromPrompt Origin = "prompt"
	FromFile   Origin = "file"
	FromEnv    Origin = "env"
)

// SecretRef stands in a plan for a secret value, which is never recorded.
type SecretRef struct {
	Name   string `json:"name"`             // how steps ask for it
	From   Origin `json:"from"`             // where the value comes from
	Source string `json:"source,omitempty"` // path or variable; empty for a prompt
	Prompt string `json:"prompt,omitempty"` // the question to ask
	Flag   string `json:"flag,omitempty"`   // the flag that gives it where nobody can be asked
}

// Resolver fetches the value of a secret. It returns an error with code Refused
// that names the flag when nobody can be asked.
type Resolver interface {
	Secret(ctx context.Context, ref SecretRef) (string, error)
}

func checkSecrets(refs []SecretRef) error {
	seen := map[string]bool{}
	for _, r := range refs {
		if r.Name == "" || seen[r.Name] {
			return fmt.Errorf("secret %q: the name must be unique and not empty", r.Name)
		}
		seen[r.Name] = true
		switch r.From {
		case FromPrompt, FromFile, FromEnv:
		default:
			return fmt.Errorf("secret %q: unknown origin %q", r.Name, r.From)
		}
		for _, t := range []string{r.Name, r.Source, r.Prompt, r.Flag} {
			if err := checkText("secret "+r.Name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// minGuarded is the length from which a secret found in a plan's text can only
// be the secret itself, not a word that happens to be the same.
const minGuarded = 8

// resolve fetches the secrets of a plan and makes sure that its recorded part
// does not hold one of them.
func (e *Engine) resolve(ctx context.Context, d document) (secrets, error) {
	s := secrets{values: map[string]string{}}
	for _, ref := range d.Secrets {
		v, err := e.secret(ctx, ref)
		if err != nil {
			return secrets{}, err
		}
		s.values[ref.Name] = v
	}
	s.prepare()
	text, err := json.Marshal(d)
	if err != nil {
		return secrets{}, err
	}
	for name, v := range s.values {
		if len(v) >= minGuarded && slices.ContainsFunc(forms(v), func(f string) bool { return bytes.Contains(text, []byte(f)) }) {
			return secrets{}, fmt.Errorf("plan %q: holds the value of secret %q, which would be recorded", d.Kind, name)
		}
	}
	return s, nil
}

// secret asks the resolver once per engine and reference: a preflight before
// the question and the run after it need the same value.
func (e *Engine) secret(ctx context.Context, ref SecretRef) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.known[ref]; ok {
		return v, nil
	}
	if e.Secrets == nil {
		return "", refused("secret %q: nobody to ask", ref.Name)
	}
	v, err := e.Secrets.Secret(ctx, ref)
	if err != nil {
		if ctx.Err() != nil {
			return "", fail.As(fail.Interrupted, fmt.Errorf("secret %q: %w", ref.Name, err))
		}
		return "", fmt.Errorf("secret %q: %w", ref.Name, err)
	}
	if v == "" {
		return "", refused("secret %q: empty", ref.Name)
	}
	if e.known == nil {
		e.known = map[SecretRef]string{}
	}
	e.known[ref] = v
	return v, nil
}

// secrets holds resolved values and takes them out of texts.
type secrets struct {
	values   map[string]string
	replacer *strings.Replacer
}

// Redacted stands in the journal and in errors where a secret was.
const Redacted = "[redacted]"

// prepare builds the replacer. Longer forms go first, so that no tail of a
// secret survives the replacement of a shorter one.
func (s *secrets) prepare() {
	var all []string
	for _, v := range s.values {
		all = append(all, forms(v)...)
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, f := range slices.Compact(all) {
		pairs = append(pairs, f, Redacted)
	}
	s.replacer = strings.NewReplacer(pairs...)
}

// forms lists the spellings in which a secret may turn up in a text.
func forms(v string) []string {
	f := []string{v, url.QueryEscape(v), url.PathEscape(v)}
	if b, err := json.Marshal(v); err == nil {
		f = append(f, string(b[1:len(b)-1]))
	}
	if len(v) >= minGuarded {
		f = append(f, base64.StdEncoding.EncodeToString([]byte(v)), base64.RawStdEncoding.EncodeToString([]byte(v)),
			base64.URLEncoding.EncodeToString([]byte(v)), hex.EncodeToString([]byte(v)))
	}
	return f
}

// text returns s without secrets.
func (s *secrets) text(t string) string {
	if s.replacer == nil || len(s.values) == 0 {
		return t
	}
	return s.replacer.Replace(t)
}

// encode returns v as compact JSON without secrets.
func (s *secrets) encode(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil || len(s.values) == 0 {
		return b, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return json.Marshal(s.walk(tree))
}

func (s *secrets) walk(v any) any {
	switch v := v.(type) {
	case string:
		return s.text(v)
	case json.Number:
		if t := s.text(v.String()); t != v.String() {
			return t
		}
		return v
	case []any:
		for i := range v {
			v[i] = s.walk(v[i])
		}
		return v
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[s.text(k)] = s.walk(e)
		}
		return m
	}
	return v
}

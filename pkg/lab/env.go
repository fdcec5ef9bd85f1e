package lab

import (
	"path/filepath"
	"strings"

	"github.com/tritonops/tritonops/pkg/fail"
)

// A Var is one environment variable that points a command at the lab. Prepend
// means that the old value stays behind the new one, as for PATH; Unset that the
// variable is taken away.
type Var struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Prepend bool   `json:"prepend,omitempty"`
	Unset   bool   `json:"unset,omitempty"`
}

// Env returns what points commands at an instance, as if they ran in its zone,
// or with an empty name at the lab's Manta as its operator.
func (s *State) Env(instance string) ([]Var, error) {
	vars := []Var{{Name: "TRITONOPS_LAB", Value: s.Dir}}
	home, keyID := paths{s.Dir}.home(), s.Operator.KeyID
	if instance != "" {
		in := s.Instance(instance)
		if in == nil {
			return nil, fail.New(fail.Usage, "instance %q: not in the lab %s", instance, s.Dir)
		}
		home, keyID = filepath.Join(in.Root, "root"), in.KeyID
		vars = append(vars, Var{Name: "TRITONOPS_ROOT", Value: in.Root}, Var{Name: "TRITONOPS_HOSTNAME", Value: in.Hostname},
			Var{Name: "IMGAPI_URL", Value: in.URL})
		if s.Binary != "" {
			vars = append(vars, Var{Name: "PATH", Value: filepath.Join(paths{s.Dir}.bin(), in.Name), Prepend: true})
		}
	}
	return append(vars,
		Var{Name: "MANTA_URL", Value: s.Manta.URL}, Var{Name: "MANTA_USER", Value: s.Account}, Var{Name: "MANTA_KEY_ID", Value: keyID},
		Var{Name: "MANTA_TLS_INSECURE", Value: "1"}, Var{Name: "HOME", Value: home},
		Var{Name: "MANTA_SUBUSER", Unset: true}, Var{Name: "MANTA_ROLE", Unset: true}, Var{Name: "MANTA_NO_AUTH", Unset: true}), nil
}

// RenderSh writes variables for `eval` in any Bourne shell.
func RenderSh(vars []Var) string {
	var b strings.Builder
	for _, v := range vars {
		switch {
		case v.Unset:
			b.WriteString("unset " + v.Name + "\n")
		case v.Prepend:
			b.WriteString("export " + v.Name + "=" + shQuote(v.Value) + ":\"$" + v.Name + "\"\n")
		default:
			b.WriteString("export " + v.Name + "=" + shQuote(v.Value) + "\n")
		}
	}
	return b.String()
}

// Environ lays variables over an environment of NAME=value strings.
func Environ(base []string, vars []Var) []string {
	old := map[string]string{}
	var order []string
	for _, kv := range base {
		k, v, ok := strings.Cut(kv, "=")
		if _, seen := old[k]; ok && !seen {
			order = append(order, k)
		}
		old[k] = v
	}
	for _, v := range vars {
		have, seen := old[v.Name]
		if !seen && !v.Unset {
			order = append(order, v.Name)
		}
		switch {
		case v.Unset:
			delete(old, v.Name)
		case v.Prepend && have != "":
			old[v.Name] = v.Value + string(filepath.ListSeparator) + have
		default:
			old[v.Name] = v.Value
		}
	}
	var out []string
	for _, k := range order {
		if v, ok := old[k]; ok {
			out = append(out, k+"="+v)
		}
	}
	return out
}

// shQuote quotes for a Bourne shell: nothing in single quotes is special.
func shQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

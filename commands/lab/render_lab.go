package lab

import (
	"slices"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/ui"
)

// upText tells how to go on from a lab that is up.
func upText(u *ui.UI, s *lab.State) error {
	if err := u.Printf("lab %s is up\n  manta    %s (account %s)\n", s.Dir, s.Manta.URL, s.Account); err != nil {
		return err
	}
	name := ""
	for _, in := range s.Instances {
		if err := u.Printf("  %-8s %s\n", in.Name, in.URL); err != nil {
			return err
		}
		if name == "" {
			name = " --instance " + in.Name
		}
	}
	if name == "" {
		name = " --operator"
	}
	return u.Printf("to use it:  eval \"$(tritonops lab env --dir %s%s)\"\n", quote(s.Dir), name)
}

// quote quotes a path for a shell if need be.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func statusTable(t *ui.Table, st *lab.Status) {
	t.Header("INSTANCE", "SERVICE", "STATE", "SINCE", "ADDRESS")
	t.Row("", "manta", "online", st.Since.Format(time.RFC3339), st.Manta.URL)
	for _, in := range st.Instances {
		services := st.Services[in.Name]
		slices.SortFunc(services, func(a, b lab.ServiceStatus) int { return strings.Compare(b.Name, a.Name) })
		for _, s := range services {
			address := in.URL
			if s.Name == "imgapi" {
				address = in.LocalURL()
			}
			t.Row(in.Name, s.Name, s.State, s.Since.Format(time.RFC3339), address)
		}
	}
}

func faultTable(t *ui.Table, list []fault.State) {
	t.Header("ID", "KIND", "SERVICE", "INSTANCE", "METHOD", "PATH", "SEEN", "MET", "LEFT")
	for _, f := range list {
		left := any("for ever")
		switch {
		case f.Done:
			left = "none"
		case f.Count > 0:
			left = f.Count - f.Hits
		case f.For > 0:
			left = "a while"
		}
		t.Row(f.ID, string(f.Kind), f.Service, f.Instance, f.Method, f.Path, f.Seen, f.Hits, left)
	}
}

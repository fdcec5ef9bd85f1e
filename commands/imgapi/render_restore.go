package imgapi

import (
	"fmt"
	"strings"

	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/ui"
)

func renderRestore(u *ui.UI, r restoreReport) error {
	if r.Empty {
		return u.Printf("nothing to restore: the store is empty; %s is marked and may be backed up now\n", r.Target)
	}
	faults := r.Restored.Faults
	if c := r.Compared; c != nil {
		faults = append(faults, differs("not_listed", "on disk and active, but the server does not list it: it refused the manifest at start, see its log", c.Missing)...)
		faults = append(faults, differs("unknown_image", "the server lists it, but its manifest is not on disk", c.Extra)...)
	}
	if err := renderFaults(u.Out(), u.OutPaint(), u.Width(), faults); err != nil {
		return err
	}
	from := fmt.Sprintf("generation %d", r.Restored.Generation)
	if r.Restored.Generation == 0 {
		from = "the mirror"
	}
	if err := u.Printf("restored %s into %s: %s, %s (the disk still had %d), %s\n",
		from, r.Target, count(r.Restored.Manifests, "manifest"), count(r.Restored.Files, "image file"), r.Restored.Reused, bytesText(r.Restored.Bytes)); err != nil {
		return err
	}
	if r.Compared != nil {
		if err := u.Printf("the server lists %d of %d active images\n", r.Compared.Expected-len(r.Compared.Missing), r.Compared.Expected); err != nil {
			return err
		}
	}
	if r.Aside != "" {
		u.Say("what was replaced is kept in %s; remove it when you no longer need it", r.Aside)
	}
	return nil
}

// differs is one fault for all images of a kind, so that a server that lists
// nothing does not fill the screen.
func differs(code, text string, uuids []string) []backup.Fault {
	if len(uuids) == 0 {
		return nil
	}
	some := uuids[:min(len(uuids), 5)]
	name := strings.Join(some, ", ")
	if n := len(uuids) - len(some); n > 0 {
		name += fmt.Sprintf(" and %d more", n)
	}
	return []backup.Fault{{Code: code, Path: name, Text: text}}
}

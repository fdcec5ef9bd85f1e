package imgapi

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/integrity"
	"github.com/tritonops/tritonops/pkg/manta"
	"github.com/tritonops/tritonops/pkg/ui"
)

// shownImages is how many dependent images a block lists; JSON has all.
const shownImages = 20

// shownAlike is up to how many findings that say the same are shown one by one.
const shownAlike = 3

// fixes are the commands that may cure a fault, the gentlest first.
func fixes(self string, i *instance.Instance, f integrity.Fault) []string {
	dir := filepath.Dir(i.FilePath(f.UUID, f.File))
	var out []string
	switch {
	case errors.Is(f.Err, manta.ErrAuth):
		if pub, err := i.PublicKey(); err == nil {
			out = append(out, fmt.Sprintf("echo '%s' | triton -a %s key add -", pub, i.Config.Manta.User))
		}
		return append(out, self+" status")
	case f.State == integrity.Unreadable && f.Stor == integrity.Manta:
		return []string{self + " status"}
	case f.State == integrity.Unreadable:
		return []string{"ls -ld " + quote(filepath.Join(dir, f.File))}
	case f.Leftover != "":
		return []string{
			"mv " + quote(filepath.Join(dir, f.Leftover)) + " " + quote(filepath.Join(dir, f.File)),
			self + " check-files " + f.UUID,
		}
	case f.Stor == integrity.Local && i.Config.Manta != nil:
		out = append(out, self+" restore --image "+f.UUID+" # if the backup has it intact; else delete for re-import:")
	}
	for _, d := range f.Dependents {
		out = append(out, "imgapi-cli delete "+d.UUID)
	}
	return out
}

// manifestFix is what to do about a manifest that cannot be read.
func manifestFix(i *instance.Instance, uuid string) []string {
	look := "ls -l " + quote(i.ManifestPath(uuid))
	if i.Config.Manta == nil {
		return []string{look}
	}
	return []string{look, "tritonops imgapi restore --image " + uuid + " # if the backup has it intact"}
}

// quote makes a path safe to paste into a shell.
func quote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// print writes the report: blocks for what is wrong, lines for warnings, and one
// line to sum up.
func (o *checkFilesOptions) print(i *instance.Instance, r *checkReport) error {
	return o.env.PrintText(r, func(u *ui.UI) error {
		if o.env.Globals.Verbose {
			for _, fill := range []func(*ui.Table, *checkReport){filesTable, straysTable} {
				t := u.NewTable(o.env.Globals.NoHeader)
				fill(t, r)
				if err := t.Render(u.Out()); err != nil {
					return err
				}
				if err := u.Printf("\n"); err != nil {
					return err
				}
			}
		}
		for _, b := range faultBlocks(i, r) {
			if err := b.Render(u.Out(), u.OutPaint(), u.Width()); err != nil {
				return err
			}
			if err := u.Printf("\n"); err != nil {
				return err
			}
		}
		for _, w := range warningLines(r) {
			if err := u.Printf("warning: %s\n", w); err != nil {
				return err
			}
		}
		return u.Printf("%s\n", filesSum(r))
	})
}

func filesTable(t *ui.Table, r *checkReport) {
	t.Header("UUID", "NAME", "VERSION", "FILE", "STOR", "SIZE", "STATE")
	for _, f := range r.Files {
		state := ui.Styled{Text: string(f.State), Style: ui.Good}
		if f.State != integrity.OK {
			state.Style = ui.Bad
		}
		t.Row(f.UUID, f.Name, f.Version, f.File, f.Stor, bytesText(f.Size), state)
	}
}

func straysTable(t *ui.Table, r *checkReport) {
	t.Header("STRAY", "SIZE", "CLASS", "WHY")
	for _, s := range r.Strays {
		t.Row(s.Rel, bytesText(s.Size), string(s.Class), s.Why)
	}
}

// faultBlocks are the findings in the manner of FMA: manifests, then files.
func faultBlocks(i *instance.Instance, r *checkReport) []ui.Block {
	var out []ui.Block
	for _, m := range r.Manifests {
		if m.Rejected {
			continue
		}
		out = append(out, ui.Block{Title: "Image " + m.UUID, Style: ui.Bad, Fields: []ui.Field{
			{Label: "State", Lines: []string{"manifest unreadable"}},
			{Label: "Reason", Lines: []string{m.Reason}},
			{Label: "Fix", Lines: manifestFix(i, m.UUID), Whole: true},
			{Label: "Impact", Lines: []string{"the server leaves this image out when it next starts; its files were not checked"}},
		}})
	}
	var unreached []checkedFile
	for _, f := range r.Files {
		switch {
		case notReached(f):
			unreached = append(unreached, f)
		case f.State != integrity.OK:
			out = append(out, fileBlock(f))
		}
	}
	if len(unreached) > shownAlike {
		return append(out, unreachedBlock(unreached))
	}
	for _, f := range unreached {
		out = append(out, fileBlock(f))
	}
	return out
}

// notReached says whether a file could not be checked because of Manta, not
// because of the file.
func notReached(f checkedFile) bool {
	return f.State == integrity.Unreadable && f.Stor == integrity.Manta
}

// unreachedBlock stands for many files that have one trouble in common.
func unreachedBlock(files []checkedFile) ui.Block {
	return ui.Block{
		Title: "Image files in Manta", Style: ui.Bad,
		Fields: []ui.Field{
			{Label: "State", Lines: []string{fmt.Sprintf("%d image files could not be checked", len(files))}},
			{Label: "Reason", Lines: append(slices.Clone(files[0].Reasons), "(of the first; -j lists all)")},
			{Label: "Fix", Lines: files[0].Fix, Whole: true},
		},
	}
}

func fileBlock(f checkedFile) ui.Block {
	states := map[integrity.State]string{
		integrity.Corrupt:    "image file corrupt",
		integrity.Missing:    "image file missing",
		integrity.Unreadable: "image file could not be checked",
	}
	b := ui.Block{
		Title: fmt.Sprintf("Image %s (%s@%s)", f.UUID, f.Name, f.Version),
		Style: ui.Bad,
		Fields: []ui.Field{
			{Label: "State", Lines: []string{fmt.Sprintf("%s (%s, stor %s)", states[f.State], f.File, f.Stor)}},
			{Label: "Reason", Lines: f.Reasons},
			{Label: "Fix", Lines: clipLines(f.Fix), Whole: true},
		},
	}
	if f.State != integrity.Unreadable {
		var impact []string
		for _, h := range f.Heads {
			impact = append(impact, fmt.Sprintf("provisioning with image %s (%s@%s) will fail", h.UUID, h.Name, h.Version))
		}
		b.Fields = append(b.Fields, ui.Field{Label: "Impact", Lines: clipLines(impact)})
	}
	return b
}

func clipLines(lines []string) []string {
	if len(lines) <= shownImages {
		return lines
	}
	return append(lines[:shownImages:shownImages], fmt.Sprintf("... and %d more; -j lists all", len(lines)-shownImages))
}

// warningLines are the warnings, those that many images have in common on one
// line: a changed configuration concerns all of them.
func warningLines(r *checkReport) []string {
	var w warnings
	for _, m := range r.Manifests {
		if m.Rejected {
			w.add("the server leaves it out when it next starts: "+m.Reason, "image "+m.UUID)
		}
	}
	for _, f := range r.Files {
		for _, text := range f.Warnings {
			w.add(text, fmt.Sprintf("image %s (%s@%s) %s", f.UUID, f.Name, f.Version, f.File))
		}
	}
	out := w.lines()
	for _, s := range r.StraySums {
		out = append(out, fmt.Sprintf("data directory: %s: %d (%s) of no image; -v lists them", s.Class, s.Count, bytesText(s.Bytes)))
	}
	return out
}

// warnings are gathered by text, in the order in which they came.
type warnings struct {
	texts []string
	about map[string][]string
}

func (w *warnings) add(text, about string) {
	if w.about == nil {
		w.about = make(map[string][]string)
	}
	if w.about[text] == nil {
		w.texts = append(w.texts, text)
	}
	w.about[text] = append(w.about[text], about)
}

func (w *warnings) lines() []string {
	var out []string
	for _, text := range w.texts {
		about := w.about[text]
		if len(about) > shownAlike {
			out = append(out, fmt.Sprintf("%s and %d others: %s", about[0], len(about)-1, text))
			continue
		}
		for _, a := range about {
			out = append(out, a+": "+text)
		}
	}
	return out
}

func filesSum(r *checkReport) string {
	s := r.Summary
	return fmt.Sprintf("files: %d (%s), ok %d (%d of them known from before), corrupt %d, missing %d, not checked %d",
		s.Checked, bytesText(s.Bytes), s.OK, s.Cached, s.Corrupt, s.Missing, s.Unreadable)
}

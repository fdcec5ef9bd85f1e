package imgapi

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/ui"
)

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func summaryText(s backup.Summary) string {
	return fmt.Sprintf("%s, %s, %s", count(s.Manifests, "manifest"), count(s.Files, "image file"), bytesText(s.Bytes))
}

// count is "1 manifest", "2 manifests"; "entry" has its plural in -ies.
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func renderRun(u *ui.UI, r backup.Report) error {
	if err := renderFaults(u.Out(), u.OutPaint(), u.Width(), r.Faults); err != nil {
		return err
	}
	switch {
	case r.DryRun:
		for _, p := range r.Puts {
			u.Detail("save %s", p)
		}
		for _, p := range r.Deletes {
			u.Detail("delete %s", p)
		}
		if r.Changed+r.Deleted == 0 {
			return u.Printf("generation %d is up to date, there would be nothing to do (%s)\n", r.Generation, summaryText(r.State))
		}
		return u.Printf("would save %s and delete %d (%s then)\n", count(r.Changed, "entry"), r.Deleted, summaryText(r.State))
	case r.Published:
		return u.Printf("generation %d: %s saved, %d deleted, %s of image files sent (%s)\n", r.Generation, count(r.Changed, "entry"), r.Deleted, bytesText(r.Uploaded), summaryText(r.State))
	}
	return u.Printf("generation %d is up to date (%s)\n", r.Generation, summaryText(r.State))
}

// faultsShown is how many blocks of one kind fit a screen that is still read.
const faultsShown = 10

func renderFaults(w io.Writer, p ui.Paint, width int, faults []backup.Fault) error {
	seen := map[string]int{}
	for _, f := range faults {
		if seen[f.Code]++; seen[f.Code] > faultsShown {
			continue
		}
		b := ui.Block{Title: f.Code, Style: ui.Caution, Fields: []ui.Field{
			{Label: "Object", Lines: lines(f.Path)}, {Label: "State", Lines: lines(f.Text)}, {Label: "Run", Lines: lines(f.Fix), Whole: true},
		}}
		if err := b.Render(w, p, width); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, code := range slices.Sorted(maps.Keys(seen)) {
		if more := seen[code] - faultsShown; more > 0 {
			fmt.Fprintf(w, "%s: %d more; -o json names all\n\n", code, more)
		}
	}
	return nil
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func renderGenerations(t *ui.Table, l backup.Listing) {
	t.Header("GENERATION", "TIME", "KIND", "WRITER", "CHANGED", "DELETED", "MANIFESTS", "FILES", "BYTES", "GOOD")
	for _, g := range l.Generations {
		if g.Fault != "" {
			t.Row(g.Seq, "", ui.Styled{Text: "damaged", Style: ui.Bad}, "", "", "", "", "", "", "")
			continue
		}
		kind := string(g.Kind)
		if g.RestoredTo > 0 {
			kind = fmt.Sprintf("restored to %d", g.RestoredTo)
		}
		who := g.Writer.Alias
		if who == "" {
			who = g.Writer.Instance
		}
		t.Row(g.Seq, g.Time, kind, who, g.Changed, g.Deleted, g.State.Manifests, g.State.Files, bytesText(g.State.Bytes), g.Good)
	}
}

func renderVerification(u *ui.UI, v backup.Verification) error {
	if err := renderFaults(u.Out(), u.OutPaint(), u.Width(), v.Faults); err != nil {
		return err
	}
	how := "every object present with the right length and MD5"
	if v.Deep {
		how = fmt.Sprintf("every byte read (%s)", bytesText(v.BytesRead))
	}
	if len(v.Faults) > 0 {
		return u.Printf("generation %d: %s (%s)\n", v.Generation, count(len(v.Faults), "fault"), summaryText(v.State))
	}
	return u.Printf("generation %d is good: %s (%s)\n", v.Generation, how, summaryText(v.State))
}

func renderPruned(u *ui.UI, p backup.Pruned) error {
	for _, k := range p.Deleted {
		u.Detail("delete %s", k)
	}
	verb := "deleted"
	if p.DryRun {
		verb = "would delete"
	}
	if p.HeldBy != "" {
		u.Say("more is kept than asked for: %s", p.HeldBy)
	}
	return u.Printf("%s %s, %s and %s (%s); %s; %s out their grace\n",
		verb, count(p.Records, "record"), count(p.Bases, "base"), count(p.Objects, "image file"), bytesText(p.Bytes),
		stay(p.OldestKept, p.Newest), waiting(p.Condemned))
}

func stay(oldest, newest uint64) string {
	if oldest == newest {
		return fmt.Sprintf("generation %d stays", newest)
	}
	return fmt.Sprintf("generations %d to %d stay", oldest, newest)
}

func waiting(n int) string {
	if n == 1 {
		return "1 image file waits"
	}
	return fmt.Sprintf("%d image files wait", n)
}

func renderCopied(u *ui.UI, c backup.Copied) error {
	verb := "copied"
	if c.DryRun {
		verb = "would copy"
	}
	return u.Printf("%s %s (%s), %s and %s to %s: up to generation %d\n", verb,
		count(c.Objects, "image file"), bytesText(c.Bytes), count(c.Records, "record"), count(c.Bases, "base"), c.To, c.Newest)
}

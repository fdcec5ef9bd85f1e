package imgapi

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"github.com/tritonops/tritonops/pkg/backup"
	"github.com/tritonops/tritonops/pkg/ui"
)

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func summaryText(s backup.Summary) string {
	return fmt.Sprintf("%d manifests, %d image files, %s", s.Manifests, s.Files, bytesText(s.Bytes))
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
		return u.Printf("would save %d and delete %d entries: %s\n", r.Changed, r.Deleted, summaryText(r.State))
	case r.Published:
		return u.Printf("generation %d: %d entries saved, %d deleted, %s of image files sent (%s)\n", r.Generation, r.Changed, r.Deleted, bytesText(r.Uploaded), summaryText(r.State))
	}
	return u.Printf("generation %d is up to date (%s)\n", r.Generation, summaryText(r.State))
}

func renderFaults(w io.Writer, p ui.Paint, width int, faults []backup.Fault) error {
	for _, f := range faults {
		b := ui.Block{Title: f.Code, Style: ui.Caution, Fields: []ui.Field{
			{Label: "Object", Lines: lines(f.Path)}, {Label: "State", Lines: lines(f.Text)}, {Label: "Run", Lines: lines(f.Fix)},
		}}
		if err := b.Render(w, p, width); err != nil {
			return err
		}
		fmt.Fprintln(w)
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
		return u.Printf("generation %d: %d faults (%s)\n", v.Generation, len(v.Faults), summaryText(v.State))
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
	return u.Printf("%s %d records, %d bases and %d image files (%s); generations %d to %d stay; %d image files wait out their grace\n",
		verb, p.Records, p.Bases, p.Objects, bytesText(p.Bytes), p.OldestKept, p.Newest, p.Condemned)
}

func renderCopied(u *ui.UI, c backup.Copied) error {
	verb := "copied"
	if c.DryRun {
		verb = "would copy"
	}
	return u.Printf("%s %d image files (%s), %d records and %d bases to %s: up to generation %d\n", verb, c.Objects, bytesText(c.Bytes), c.Records, c.Bases, c.To, c.Newest)
}

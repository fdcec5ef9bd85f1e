package ui

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// Table is a list for people: left-aligned columns three spaces apart, a header
// of capitals, no lines, no trailing spaces.
type Table struct {
	paint    Paint
	noHeader bool
	header   []string
	rows     [][]string
}

// NewTable returns a table for stdout; noHeader leaves the header line out (-H).
func (u *UI) NewTable(noHeader bool) *Table {
	return &Table{paint: u.OutPaint(), noHeader: noHeader}
}

// Header names the columns.
func (t *Table) Header(names ...string) { t.header = names }

// Row adds a line. Cells are shown as fmt shows them, times as RFC 3339 in UTC,
// empty ones as "-"; whatever they hold, they cannot leave their line.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = t.cell(c)
	}
	t.rows = append(t.rows, row)
}

func (t *Table) cell(c any) string {
	style, text := Plain, ""
	switch v := c.(type) {
	case Styled:
		style, text = v.Style, v.Text
	case time.Time:
		if !v.IsZero() {
			text = v.UTC().Format(time.RFC3339)
		}
	case nil:
	default:
		text = fmt.Sprint(v)
	}
	if text == "" {
		text = "-"
	}
	return t.paint.Text(style, Clean(text))
}

// Render writes the table. A table without rows is just its header.
func (t *Table) Render(w io.Writer) error {
	var buf bytes.Buffer
	tab := tablewriter.NewTable(&buf,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
		})),
		tablewriter.WithConfig(tablewriter.Config{Header: cells(), Row: cells()}),
		tablewriter.WithTrimSpace(tw.Off))
	rows := t.rows
	if !t.noHeader && len(t.header) > 0 {
		rows = append([][]string{t.header}, rows...)
	}
	for _, row := range rows {
		if err := tab.Append(row); err != nil {
			return fmt.Errorf("table: %w", err)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := tab.Render(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	_, err := w.Write(trimLines(buf.Bytes()))
	return err
}

// cells is the layout of a cell: as it is, left-aligned, three spaces after it.
func cells() tw.CellConfig {
	return tw.CellConfig{
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft},
		Formatting: tw.CellFormatting{AutoFormat: tw.Off, AutoWrap: tw.WrapNone},
		Padding:    tw.CellPadding{Global: tw.Padding{Left: "", Right: "   ", Overwrite: true}},
	}
}

// trimLines takes the padding off the end of each line: what is copied from a
// terminal must not carry it.
func trimLines(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimRight(lines[i], " ")
	}
	return bytes.Join(lines, []byte("\n"))
}

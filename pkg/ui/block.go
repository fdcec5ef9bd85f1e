package ui

import (
	"fmt"
	"io"
	"strings"
)

// Field is one labelled entry of a block; further lines stand under the first.
type Field struct {
	Label string
	Lines []string
	Whole bool // never broken: commands, which could not be pasted otherwise
}

// Block is a fault report in the manner of FMA and svcs -xv: a title and
// right-aligned labels.
//
//	imgapi-ping (the image server answers)
//	   State: faulted
//	Evidence: GET http://127.0.0.1/ping: connection refused
//	     Run: svcadm restart imgapi
type Block struct {
	Title  string
	Style  Style
	Fields []Field // those without lines are left out
}

// Render writes the block, long lines broken at width columns (0 = never).
func (b Block) Render(w io.Writer, p Paint, width int) error {
	label := 0
	for _, f := range b.Fields {
		if len(f.Lines) > 0 {
			label = max(label, len(f.Label))
		}
	}
	var out strings.Builder
	fmt.Fprintln(&out, p.Text(b.Style, Clean(b.Title)))
	for _, f := range b.Fields {
		head := fmt.Sprintf("%*s: ", label, f.Label)
		room := width - label - 2
		if f.Whole {
			room = 0
		}
		for _, line := range f.Lines {
			for _, part := range wrap(Clean(line), room) {
				fmt.Fprintln(&out, strings.TrimRight(head+part, " "))
				head = strings.Repeat(" ", label+2)
			}
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// wrap breaks text at spaces into lines of at most width bytes; a longer word
// stays whole, so that a command can still be copied.
func wrap(text string, width int) []string {
	if width < 20 || len(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

package ui

// Style is what a piece of text means; what it looks like is decided here.
type Style int

// The styles. Plain text has none.
const (
	Plain   Style = iota
	Good          // healthy, done
	Caution       // a warning
	Bad           // faulted, stuck
	Strong        // headings, names to look at
	Faint         // details
)

// Paint colours text, or leaves it alone where colour is off.
type Paint struct{ on bool }

// Text returns s in a style. The text itself must be clean already.
func (p Paint) Text(style Style, s string) string {
	code := map[Style]string{Good: "32", Caution: "33", Bad: "31", Strong: "1", Faint: "2"}[style]
	if !p.on || code == "" || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Styled is a table cell with a style.
type Styled struct {
	Text  string
	Style Style
}

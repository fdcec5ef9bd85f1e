package ui

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Clean makes text of unknown origin safe on one line of a terminal: control
// characters, newlines, tabs, broken UTF-8 and characters that change the
// direction of writing become visible escapes such as \x1b, \n and \u202e.
func Clean(s string) string { return clean(s, false) }

// CleanText is [Clean] for text of several lines: newlines and tabs stay.
func CleanText(s string) string { return clean(s, true) }

func clean(s string, lines bool) string {
	if !needsCleaning(s, lines) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case hostile(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func needsCleaning(s string, lines bool) bool {
	if !utf8.ValidString(s) {
		return true
	}
	for _, r := range s {
		if hostile(r) && !(lines && (r == '\n' || r == '\t')) {
			return true
		}
	}
	return false
}

// hostile says whether a terminal may act on a rune instead of showing it: C0,
// DEL, C1, zero-width and line-separating characters, direction overrides.
func hostile(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
		return true
	}
	return false
}

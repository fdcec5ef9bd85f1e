package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"
)

// JSON writes v as one indented document.
func JSON(w io.Writer, v any) error {
	b, err := marshal(v, "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// JSONL writes each element of a slice, or v itself, as one line.
func JSONL(w io.Writer, v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice {
		return line(w, v)
	}
	for i := range rv.Len() {
		if err := line(w, rv.Index(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

func line(w io.Writer, v any) error {
	b, err := marshal(v, "")
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// marshal encodes v with a newline at the end. A nil slice, at any depth, is an
// empty list: scripts iterate over it.
func marshal(v any, indent string) ([]byte, error) {
	v = withLists(v)
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("json output: %w", err)
	}
	return escapeHostile(buf.Bytes()), nil
}

// escapeHostile writes as \u.... what encoding/json leaves raw and a terminal
// could act on. Such runes occur in strings only, where the escape means the
// same.
func escapeHostile(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		bad := r >= 0x7f && hostile(r)
		if bad && out == nil {
			out = append(make([]byte, 0, len(b)+32), b[:i]...)
		}
		switch {
		case bad:
			out = fmt.Appendf(out, `\u%04x`, r)
		case out != nil:
			out = append(out, b[i:i+n]...)
		}
		i += n
	}
	if out == nil {
		return b
	}
	return out
}

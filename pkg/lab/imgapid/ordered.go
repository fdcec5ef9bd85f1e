package imgapid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON the server reads.
const maxDepth = 512

// An object is a JSON object that remembers the order of its members, as the
// upstream server's runtime does. Values are nil, bool, string, json.Number,
// []any and *object.
type object struct {
	keys []string
	vals map[string]any
}

func newObject() *object { return &object{vals: map[string]any{}} }

func (o *object) has(key string) bool { _, ok := o.vals[key]; return ok }

func (o *object) get(key string) any { return o.vals[key] }

// set keeps the place of a member that exists and appends one that does not.
func (o *object) set(key string, v any) {
	if _, ok := o.vals[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.vals[key] = v
}

func (o *object) del(key string) {
	if _, ok := o.vals[key]; !ok {
		return
	}
	delete(o.vals, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
			return
		}
	}
}

// str returns a string member, "" when it is absent or something else.
func (o *object) str(key string) string { s, _ := o.vals[key].(string); return s }

// parseJSON reads one JSON value and nothing behind it.
func parseJSON(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	t, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if d == '[' {
		return parseArray(dec, depth)
	}
	o := newObject()
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o.set(k.(string), v)
	}
	_, err = dec.Token()
	return o, err
}

func parseArray(dec *json.Decoder, depth int) (any, error) {
	a := []any{}
	for dec.More() {
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := dec.Token()
	return a, err
}

// compact is JSON.stringify(v): what etags are taken of.
func compact(v any) []byte { return appendJSON(nil, v, "", "") }

// indented is JSON.stringify(v, null, 2): manifests on disk and answers on the wire.
func indented(v any) []byte { return appendJSON(nil, v, "\n", "  ") }

func appendJSON(b []byte, v any, nl, step string) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendString(b, v)
	case json.Number:
		return append(b, v...)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case []string:
		a := make([]any, len(v))
		for i, s := range v {
			a[i] = s
		}
		return appendJSON(b, a, nl, step)
	case []any:
		return appendSeq(b, '[', ']', len(v), nl, step, func(b []byte, i int, nl string) []byte {
			return appendJSON(b, v[i], nl, step)
		})
	case *object:
		return appendSeq(b, '{', '}', len(v.keys), nl, step, func(b []byte, i int, nl string) []byte {
			b = append(appendString(b, v.keys[i]), ':')
			if nl != "" {
				b = append(b, ' ')
			}
			return appendJSON(b, v.vals[v.keys[i]], nl, step)
		})
	}
	panic(fmt.Sprintf("imgapid: %T is no JSON value", v))
}

func appendSeq(b []byte, open, shut byte, n int, nl, step string, item func([]byte, int, string) []byte) []byte {
	b = append(b, open)
	if n == 0 {
		return append(b, shut)
	}
	inner := nl
	if nl != "" {
		inner = nl + step
	}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = item(append(b, inner...), i, inner)
	}
	return append(append(b, nl...), shut)
}

// appendString escapes as JSON.stringify does: only what JSON itself demands.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

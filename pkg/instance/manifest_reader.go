package instance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// manifestReader picks typed fields; the first wrong one ends it.
type manifestReader struct {
	in     string // prefix for error texts: "files[0]"
	fields map[string]json.RawMessage
	err    error
}

func (r *manifestReader) manifest() *Manifest {
	m := &Manifest{
		V:           int(r.integer("v")),
		UUID:        r.str("uuid"),
		Name:        r.str("name"),
		Version:     r.str("version"),
		Description: r.str("description"),
		Owner:       r.str("owner"),
		Public:      r.boolean("public"),
		Activated:   r.boolean("activated"),
		Disabled:    r.boolean("disabled"),
		OS:          r.str("os"),
		Type:        r.str("type"),
		Origin:      r.str("origin"),
		Channels:    r.strings("channels"),
		state:       r.str("state"),
		publishedAt: r.str("published_at"),
	}
	m.ACL = r.acl()
	m.Tags = r.tags()
	m.Files = r.files()
	m.Icon = r.icon()
	m.zvol = zvolFields{r.str("nic_driver"), r.str("disk_driver"), r.integer("image_size")}
	if m.publishedAt != "" {
		m.PublishedAt, _ = time.Parse(time.RFC3339, m.publishedAt) // Rejections tells
	}
	if !r.has("activated") { // the API form has only the state
		m.Activated = m.state == "active" || m.state == "disabled"
	}
	for _, f := range []string{"v", "owner", "name", "version", "disabled", "public", "state", "type", "os"} {
		if !r.has(f) {
			m.missing = append(m.missing, f)
		}
	}
	switch {
	case r.err != nil:
	case m.UUID == "":
		r.fail("uuid", "missing")
	case !ValidUUID(m.UUID):
		r.fail("uuid", "not a UUID: %q", clip(m.UUID))
	}
	return m
}

func (r *manifestReader) fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = &FieldError{Field: dotted(r.in, field), Msg: fmt.Sprintf(format, args...)}
	}
}

// has says whether the field is there and not null.
func (r *manifestReader) has(field string) bool {
	raw, ok := r.fields[field]
	return ok && string(raw) != "null"
}

// value decodes a field into v when it is there.
func (r *manifestReader) value(field, want string, v any) bool {
	if !r.has(field) {
		return false
	}
	if err := json.Unmarshal(r.fields[field], v); err != nil {
		r.fail(field, "must be %s, is %s", want, kindOfJSON(r.fields[field]))
		return false
	}
	return true
}

func (r *manifestReader) str(field string) string {
	// The decoder has validated the text: without escapes it is what stands there.
	if raw := r.fields[field]; len(raw) >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	r.value(field, "a string", &s)
	return s
}

// boolean accepts "true" and "false" in quotes too, as the server does.
func (r *manifestReader) boolean(field string) bool {
	switch string(r.fields[field]) {
	case `"true"`, `true`:
		return true
	case `"false"`, `false`:
		return false
	}
	var b bool
	r.value(field, "true or false", &b)
	return b
}

func (r *manifestReader) integer(field string) int64 {
	if !r.has(field) {
		return 0
	}
	var v any = kindOfJSON(r.fields[field])
	switch v {
	case "a number":
		v = json.Number(r.fields[field])
	case "a string":
		v = r.str(field)
	default:
		r.fail(field, "must be an integer, is %s", v)
		return 0
	}
	n, err := toInt(v)
	switch {
	case err != nil:
		r.fail(field, "%v", err)
	case n < 0:
		r.fail(field, "must not be negative, is %d", n)
	}
	return max(n, 0)
}

func (r *manifestReader) strings(field string) []string {
	var list []string
	r.value(field, "an array of strings", &list)
	return list
}

// acl is an array, or in old manifests one string.
func (r *manifestReader) acl() []string {
	if kindOfJSON(r.fields["acl"]) == "a string" {
		return []string{r.str("acl")}
	}
	return r.strings("acl")
}

// tags are an object in the API form. On disk that object is "tagsObj" and "tags"
// an array of "key=value" for searching; manifests from before 2015 have only the
// array.
func (r *manifestReader) tags() map[string]any {
	var m map[string]any
	if r.value("tagsObj", "an object", &m) {
		return m
	}
	if kindOfJSON(r.fields["tags"]) != "an array" {
		r.value("tags", "an object", &m)
		return m
	}
	for _, kv := range r.strings("tags") {
		if m == nil {
			m = make(map[string]any)
		}
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

func (r *manifestReader) files() []File {
	var list []map[string]json.RawMessage
	if !r.value("files", "an array of objects", &list) {
		return nil
	}
	out := make([]File, 0, len(list))
	for i, fields := range list {
		f := &manifestReader{in: fmt.Sprintf("files[%d]", i), fields: fields}
		out = append(out, File{
			SHA1:        f.str("sha1"),
			Size:        f.integer("size"),
			Compression: f.str("compression"),
			ContentMD5:  f.str("contentMD5"),
			Stor:        f.str("stor"),
			MTime:       f.str("mtime"),
			DatasetGUID: f.str("dataset_guid"),
		})
		if r.err == nil {
			r.err = f.err
		}
	}
	return out
}

// icon is an object on disk and a boolean in the API form.
func (r *manifestReader) icon() *Icon {
	switch kindOfJSON(r.fields["icon"]) {
	case "missing":
		return nil
	case "a boolean", "a string":
		if !r.boolean("icon") {
			return nil
		}
		return &Icon{}
	}
	var fields map[string]json.RawMessage
	if !r.value("icon", "an object", &fields) {
		return nil
	}
	f := &manifestReader{in: "icon", fields: fields}
	icon := &Icon{
		SHA1:        f.str("sha1"),
		Size:        f.integer("size"),
		ContentMD5:  f.str("contentMD5"),
		ContentType: f.str("contentType"),
		Stor:        f.str("stor"),
		MTime:       f.str("mtime"),
	}
	if r.err == nil {
		r.err = f.err
	}
	return icon
}

// kindOfJSON names the type of an undecoded value by its first byte.
func kindOfJSON(raw json.RawMessage) string {
	switch {
	case len(raw) == 0 || raw[0] == 'n':
		return "missing"
	case raw[0] == '"':
		return "a string"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "an array"
	case raw[0] == 't' || raw[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// clip keeps hostile text out of error messages.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

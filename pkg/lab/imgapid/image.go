package imgapid

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unsetOwner is the owner every imported image gets outside a data center.
const unsetOwner = "00000000-0000-0000-0000-000000000000"

// An image is one manifest in memory: its internal form as compact JSON, and
// what listings filter and sort by. It is never changed, only replaced.
type image struct {
	uuid string
	raw  []byte

	fields    [len(filterFields)]string // the filterable members, as strings; "undefined" when absent
	acl       []string
	tags      []string
	channels  []string
	published string // "" when absent
	ms        int64  // published in milliseconds, 0 when absent
}

var filterFields = [...]string{"owner", "state", "activated", "disabled", "public", "name", "version", "origin", "os", "type"}

func newImage(raw *object, intern func(string) string) *image {
	im := &image{uuid: raw.str("uuid"), raw: compact(raw)}
	for i, f := range filterFields {
		im.fields[i] = intern(jsString(raw, f))
	}
	im.acl = stringList(raw.get("acl"))
	im.tags = stringList(raw.get("tags"))
	im.channels = stringList(raw.get("channels"))
	im.published = raw.str("published_at")
	if t, ok := parseDate(im.published); ok {
		im.ms = t.UnixMilli()
	}
	return im
}

// field is a filterable member as a string.
func (im *image) field(name string) string { return im.fields[slices.Index(filterFields[:], name)] }

// object parses the internal form afresh.
func (im *image) object() *object {
	v, err := parseJSON(im.raw)
	if err != nil {
		panic("imgapid: own JSON of " + im.uuid + " does not parse: " + err.Error())
	}
	return v.(*object)
}

func stringList(v any) []string {
	a, _ := v.([]any)
	out := make([]string, 0, len(a))
	for _, e := range a {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// jsString is String(o[key]).
func jsString(o *object, key string) string {
	v, ok := o.vals[key]
	if !ok {
		return "undefined"
	}
	return toString(v)
}

func toString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case *object:
		return "[object Object]"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			if e != nil {
				parts[i] = toString(e)
			}
		}
		return strings.Join(parts, ",")
	}
	return string(compact(v))
}

// truthy is how the upstream server decides whether a member is there.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	}
	return true
}

// boolOf reads a boolean that may be spelt as a string.
func boolOf(v any, absent bool) (value, ok bool) {
	switch v := v.(type) {
	case nil:
		return absent, true
	case bool:
		return v, true
	case string:
		return v == "true", v == "true" || v == "false"
	}
	return false, false
}

func isTrue(raw *object, key string) bool {
	b, _ := boolOf(raw.get(key), false)
	return b
}

func stateOf(activated, disabled bool) string {
	switch {
	case !activated:
		return "unactivated"
	case disabled:
		return "disabled"
	}
	return "active"
}

// view says which form of a manifest an answer takes.
type view struct {
	mode     string
	channels bool // the client asked for version 2: channels are shown
	admin    bool // files[].stor is shown
}

// public is the manifest as the API shows it.
func (w view) public(raw *object) *object {
	o := newObject()
	v, _ := strconv.ParseFloat(jsString(raw, "v"), 64)
	o.set("v", json.Number(strconv.FormatFloat(v, 'f', -1, 64)))
	for _, k := range []string{"uuid", "owner", "name", "version", "state"} {
		copyMember(o, raw, k)
	}
	o.set("disabled", isTrue(raw, "disabled"))
	o.set("public", isTrue(raw, "public"))
	for _, k := range []string{"published_at", "type", "os"} {
		copyMember(o, raw, k)
	}
	o.set("files", w.files(raw))
	if a, ok := raw.get("acl").([]any); ok && len(a) > 0 {
		o.set("acl", a)
	}
	copyTruthy(o, raw, "description", "homepage", "eula")
	if truthy(raw.get("icon")) {
		o.set("icon", true)
	}
	copyTruthy(o, raw, "urn", "requirements", "users")
	if gp := raw.get("generate_passwords"); truthy(gp) {
		b, _ := boolOf(gp, true)
		o.set("generate_passwords", b)
	}
	copyTruthy(o, raw, "inherited_directories", "origin", "nic_driver", "disk_driver", "cpu_type", "image_size")
	if t := raw.get("tagsObj"); truthy(t) {
		o.set("tags", t)
	}
	w.rest(o, raw)
	return o
}

func (w view) rest(o, raw *object) {
	if w.mode != "public" {
		if a, ok := raw.get("billing_tags").([]any); ok && len(a) > 0 {
			o.set("billing_tags", a)
		}
		if t, ok := raw.get("traits").(*object); ok && len(t.keys) > 0 {
			o.set("traits", t)
		}
	}
	if raw.str("state") == "failed" && truthy(raw.get("error")) {
		o.set("error", raw.get("error"))
	}
	for _, k := range []string{"type", "os"} {
		if o.str(k) == "null" {
			o.del(k)
		}
	}
	if w.channels {
		copyTruthy(o, raw, "channels")
	}
}

func (w view) files(raw *object) []any {
	out := []any{}
	for _, f := range filesOf(raw) {
		fo := newObject()
		for _, k := range []string{"sha1", "size", "compression", "dataset_guid"} {
			copyMember(fo, f, k)
		}
		if w.admin {
			copyMember(fo, f, "stor")
		}
		out = append(out, fo)
	}
	return out
}

func filesOf(raw *object) []*object {
	a, _ := raw.get("files").([]any)
	var out []*object
	for _, f := range a {
		if fo, ok := f.(*object); ok {
			out = append(out, fo)
		}
	}
	return out
}

func copyMember(dst, src *object, key string) {
	if src.has(key) {
		dst.set(key, src.get(key))
	}
}

func copyTruthy(dst, src *object, keys ...string) {
	for _, k := range keys {
		if truthy(src.get(k)) {
			dst.set(k, src.get(k))
		}
	}
}

// tagList makes the searchable "key=value" list of a tags object.
func tagList(tags *object) []any {
	out := []any{}
	for _, k := range tags.keys {
		v := ""
		switch t := tags.get(k).(type) {
		case string:
			if len(t) <= 100 {
				v = t
			}
		case bool, json.Number:
			v = toString(t)
		}
		out = append(out, k+"="+v)
	}
	return out
}

// dateLayouts are the forms of date the upstream runtime reads and clients send.
var dateLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15:04Z", "2006-01-02", "2006-01", "2006",
	"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC1123Z, time.RFC1123, time.RFC850, time.ANSIC, "Jan 2, 2006", "2 Jan 2006", "2006/01/02",
}

func parseDate(s string) (time.Time, bool) {
	for _, l := range dateLayouts {
		if t, err := time.Parse(l, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// isoDate is a time as manifests carry it.
func isoDate(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

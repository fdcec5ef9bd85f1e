package imgapid

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var (
	uuidRE      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	nameRE      = regexp.MustCompile(`^[A-Za-z0-9._/ -]+$`)
	versionRE   = regexp.MustCompile(`^[A-Za-z0-9._/+-]+$`)
	publishedRE = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z$`)
)

// rules are what a manifest is held against: the server's mode and whether it
// has channels.
type rules struct {
	mode     string
	channels bool
	table    map[string]fieldRule // from fieldRules; made once, it is costly
}

func newRules(mode string, channels bool) rules {
	return rules{mode: mode, channels: channels, table: fieldRules()}
}

// A fieldRule judges one member of a manifest.
type fieldRule func(m *object, r rules) []fieldError

// requiredOrder and optionalOrder are the order in which members are judged,
// and so the order in which errors name them.
var (
	requiredOrder = []string{"v", "uuid", "owner", "name", "version", "disabled", "activated", "published_at", "public",
		"state", "type", "os", "files", "nic_driver", "disk_driver", "cpu_type", "image_size"}
	optionalOrder = []string{"urn", "description", "homepage", "eula", "origin", "error", "icon", "acl", "requirements",
		"users", "billing_tags", "traits", "tags", "generate_passwords", "inherited_directories", "channels"}
	// mutableFields may be changed by an update at any time.
	mutableFields = []string{"owner", "name", "version", "description", "homepage", "eula", "public", "os", "acl",
		"requirements", "users", "billing_tags", "traits", "tags", "generate_passwords", "inherited_directories",
		"nic_driver", "disk_driver", "cpu_type", "image_size", "channels"}
	// rawNames are the members of the internal form that validation looks at.
	rawNames = []string{"v", "uuid", "name", "version", "description", "homepage", "eula", "disabled", "activated", "state",
		"published_at", "public", "type", "os", "origin", "icon", "generate_passwords", "nic_driver", "disk_driver",
		"cpu_type", "image_size", "error", "files", "requirements", "users", "traits", "inherited_directories", "owner", "channels"}
)

// normalize completes the internal form (acl, tagsObj) and judges it by the
// rules of the server's mode. The error is an apiError.
func (r rules) normalize(raw *object) error {
	var errs []fieldError
	m := newObject()
	for _, k := range rawNames {
		copyMember(m, raw, k)
	}
	if t := raw.get("tags"); truthy(t) {
		if _, ok := t.([]any); !ok {
			errs = append(errs, fieldError{"tags", "Invalid", `invalid raw image "tags": not an array of strings`})
		} else if !truthy(raw.get("tagsObj")) {
			raw.set("tagsObj", tagsObject(stringList(t)))
		}
	}
	if t := raw.get("tagsObj"); truthy(t) {
		m.set("tags", t)
	}
	errs = append(errs, normalizeIcon(raw, m)...)
	switch acl := raw.get("acl").(type) {
	case nil:
		raw.set("acl", []any{})
	case string:
		raw.set("acl", []any{acl})
	}
	m.set("acl", raw.get("acl"))
	if bt := raw.get("billing_tags"); truthy(bt) {
		if s, ok := bt.(string); ok {
			raw.set("billing_tags", []any{s})
		}
		m.set("billing_tags", raw.get("billing_tags"))
	}
	errs = append(errs, r.check(m)...)
	if len(errs) == 0 {
		return nil
	}
	names := make([]string, len(errs))
	for i, e := range errs {
		names[i] = e.field
	}
	e := errCode("ValidationFailed", "invalid image data: %s", strings.Join(names, ", "))
	e.fields = errs
	return e
}

func tagsObject(list []string) *object {
	o := newObject()
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		o.set(k, v)
	}
	return o
}

func normalizeIcon(raw, m *object) []fieldError {
	v := raw.get("icon")
	if !truthy(v) {
		return nil
	}
	icon, _ := v.(*object)
	for _, k := range []string{"contentMD5", "size", "contentType"} {
		if icon == nil || !truthy(icon.get(k)) {
			return []fieldError{{"icon", "Invalid", `invalid image "icon": icon missing "` + k + `" field`}}
		}
	}
	m.set("icon", true)
	return nil
}

func (r rules) check(m *object) []fieldError {
	var errs []fieldError
	for _, f := range requiredOrder {
		errs = append(errs, r.table[f](m, r)...)
	}
	if r.channels {
		errs = append(errs, checkChannels(m, r)...)
	}
	for _, f := range optionalOrder {
		if m.has(f) && (f != "channels" || !r.channels) {
			errs = append(errs, r.table[f](m, r)...)
		}
	}
	return errs
}

func missing(f string) []fieldError          { return []fieldError{{f, "MissingParameter", ""}} }
func invalid(f, message string) []fieldError { return []fieldError{{f, "Invalid", message}} }

func invalidf(f, format string, args ...any) []fieldError {
	return invalid(f, fmt.Sprintf(format, args...))
}

func fieldRules() map[string]fieldRule {
	return map[string]fieldRule{
		"v": checkV, "uuid": uuidRule("uuid"), "owner": uuidRule("owner"), "origin": uuidRule("origin"),
		"name":        textRule("name", 1024, nameRE, `image name has invalid characters (only alpha-numeric characters and " ", ".", "-", "_" and "/" are allowed)`),
		"version":     textRule("version", 512, versionRE, `image version has invalid characters (only alpha-numeric characters and ".", "-", "_" and "/" are allowed)`),
		"description": textRule("description", 10*1024, nil, ""),
		"homepage":    urlRule("homepage", "homepage"), "eula": urlRule("eula", "EULA"),
		"urn": checkURN, "disabled": boolRule("disabled"), "activated": boolRule("activated"), "icon": boolRule("icon"),
		"generate_passwords": boolRule("generate_passwords"), "published_at": checkPublished, "public": checkPublic,
		"state": checkState, "type": checkType, "os": checkOS, "files": checkFiles,
		"nic_driver": zvolRule("nic_driver"), "disk_driver": zvolRule("disk_driver"), "cpu_type": zvolRule("cpu_type"),
		"image_size": checkImageSize, "error": checkError, "acl": checkACL, "requirements": checkRequirements,
		"users": checkUsers, "billing_tags": checkBillingTags, "traits": checkTraits, "tags": checkTags,
		"inherited_directories": checkDirectories, "channels": checkChannels,
	}
}

func checkV(m *object, _ rules) []fieldError {
	if !m.has("v") {
		return missing("v")
	}
	if n, ok := number(m.get("v")); !ok || n < 0 {
		return invalid("v", `"v" must be a positive integer`)
	}
	return nil
}

// number is Number(v) for the values JSON can carry.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case nil:
		return 0, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case string:
		s := strings.TrimSpace(v)
		if s == "" {
			return 0, true
		}
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil && !strings.ContainsAny(s, "_pP")
	}
	return 0, false
}

func uuidRule(f string) fieldRule {
	return func(m *object, _ rules) []fieldError {
		if !m.has(f) {
			return missing(f)
		}
		if !uuidRE.MatchString(toString(m.get(f))) {
			return invalid(f, "")
		}
		return nil
	}
}

func textRule(f string, max int, re *regexp.Regexp, message string) fieldRule {
	return func(m *object, _ rules) []fieldError {
		if !m.has(f) {
			return missing(f)
		}
		s := toString(m.get(f))
		if len(s) > max {
			return invalidf(f, "image %s is too long, max %d characters", f, max)
		}
		if re != nil && !re.MatchString(s) {
			return invalid(f, message)
		}
		return nil
	}
}

func urlRule(f, title string) fieldRule {
	return func(m *object, _ rules) []fieldError {
		s := toString(m.get(f))
		low := strings.ToLower(s)
		if !strings.HasPrefix(low, "http:") && !strings.HasPrefix(low, "https:") {
			return invalidf(f, "invalid image %s URL protocol", title)
		}
		if len(s) > 1024 {
			return invalidf(f, "image %s URL is too long (max 1024 characters)", title)
		}
		return nil
	}
}

func boolRule(f string) fieldRule {
	return func(m *object, _ rules) []fieldError {
		if !m.has(f) {
			return missing(f)
		}
		if _, ok := boolOf(m.get(f), false); !ok || m.get(f) == nil {
			return invalid(f, "")
		}
		return nil
	}
}

func zvolRule(f string) fieldRule {
	return func(m *object, _ rules) []fieldError {
		zvol := m.str("type") == "zvol"
		v, ok := m.vals[f]
		switch {
		case !ok && zvol:
			return missing(f)
		case !ok:
			return nil
		case truthy(v) && !zvol:
			return invalidf(f, "invalid image %s: %q (cannot have a value when image type is zvol)", f, toString(v))
		}
		if _, ok := v.(string); !ok {
			return invalidf(f, "invalid image %s: %q (must be a string)", f, toString(v))
		}
		return nil
	}
}

func checkImageSize(m *object, _ rules) []fieldError {
	const f = "image_size"
	zvol := m.str("type") == "zvol"
	v, ok := m.vals[f]
	switch {
	case !ok && zvol:
		return missing(f)
	case !ok:
		return nil
	case truthy(v) && !zvol:
		return invalidf(f, "invalid image image_size: %q (cannot have a value when image type is zvol)", toString(v))
	}
	if n, ok := number(v); !ok || n != math.Trunc(n) {
		return invalidf(f, "invalid image image_size: %q (must be a positive integer)", toString(v))
	}
	return nil
}

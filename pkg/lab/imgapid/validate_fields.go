package imgapid

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

var (
	validTypes        = []string{"zone-dataset", "zvol", "lx-dataset", "lxd", "docker", "other"}
	validOSes         = []string{"smartos", "linux", "windows", "bsd", "illumos", "other"}
	validStates       = []string{"active", "unactivated", "disabled", "failed", "creating"}
	validCompressions = []string{"gzip", "bzip2", "xz", "none"}
	validStorages     = []string{"local", "manta"}
)

func checkURN(m *object, _ rules) []fieldError {
	if _, ok := m.get("urn").(string); !ok {
		return invalid("urn", "")
	}
	return nil
}

func checkPublished(m *object, _ rules) []fieldError {
	v, ok := m.vals["published_at"]
	if !ok && isTrue(m, "activated") {
		return []fieldError{{"published_at", "MissingParameter", `if activated is "true" published_at must be present`}}
	}
	if truthy(v) && !publishedRE.MatchString(toString(v)) {
		return invalid("published_at", `published_at date not in "YYYY-MM-DDTHH:MM:SS(.SSS)Z" format`)
	}
	return nil
}

func checkPublic(m *object, r rules) []fieldError {
	if !m.has("public") {
		return missing("public")
	}
	public, ok := boolOf(m.get("public"), false)
	switch {
	case !ok || m.get("public") == nil:
		return invalidf("public", `TypeError: invalid value for "undefined": %s`, compact(m.get("public")))
	case r.mode == "public" && !public:
		return invalid("public", "private images are not allowed on a public Images API")
	case r.mode == "private" && public:
		return invalid("public", "public images are not allowed on a private Images API")
	}
	return nil
}

func checkState(m *object, _ rules) []fieldError {
	if !m.has("state") {
		return missing("state")
	}
	if !slices.Contains(validStates, m.str("state")) {
		return invalid("state", "")
	}
	return nil
}

func checkType(m *object, _ rules) []fieldError { return checkOneOf(m, "type", validTypes) }
func checkOS(m *object, _ rules) []fieldError   { return checkOneOf(m, "os", validOSes) }

func checkOneOf(m *object, f string, valid []string) []fieldError {
	if !m.has(f) {
		return missing(f)
	}
	s := toString(m.get(f))
	if s == "null" {
		if st := m.str("state"); st != "creating" && st != "failed" {
			return invalidf(f, `invalid image %s, "null"`, f)
		}
		return nil
	}
	if !slices.Contains(valid, s) {
		return invalidf(f, `invalid image %s, "%s", must be one of: %s`, f, s, strings.Join(valid, ", "))
	}
	return nil
}

func checkFiles(m *object, _ rules) []fieldError {
	v, ok := m.vals["files"]
	if !ok {
		if isTrue(m, "activated") {
			return []fieldError{{"files", "MissingParameter", `if activated is "true" files must be present`}}
		}
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return invalidf("files", `invalid image "files" (not an array): %s`, toString(v))
	}
	if len(list) > 2 || (len(list) > 1 && m.str("type") != "lxd") {
		return invalid("files", `invalid image "files": too many files`)
	}
	var errs []fieldError
	for _, e := range list {
		f, _ := e.(*object)
		if f == nil {
			f = newObject()
		}
		for _, k := range []string{"sha1", "size", "compression"} {
			if !truthy(f.get(k)) {
				errs = append(errs, invalidf("files", `invalid image "files": file missing "%s" field`, k)...)
			}
		}
		if c := f.get("compression"); truthy(c) && !slices.Contains(validCompressions, toString(c)) {
			errs = append(errs, invalidf("files", `invalid image "files": invalid compression "%s" (must be one of %s)`,
				toString(c), strings.Join(validCompressions, ", "))...)
		}
	}
	return errs
}

func checkError(m *object, _ rules) []fieldError {
	switch v := m.get("error").(type) {
	case *object, []any, nil:
		return nil
	default:
		return invalidf("error", `invalid image "error" (not an object): %s`, compact(v))
	}
}

func checkACL(m *object, _ rules) []fieldError {
	a, ok := m.get("acl").([]any)
	if !ok {
		return invalidf("acl", `invalid image "acl" (not an array): %s`, toString(m.get("acl")))
	}
	for i, e := range a {
		if !uuidRE.MatchString(toString(e)) {
			return invalidf("acl", `invalid image "acl" (item %d is not a UUID): %s`, i, toString(e))
		}
	}
	return nil
}

func checkChannels(m *object, r rules) []fieldError {
	v, ok := m.vals["channels"]
	if !ok {
		return missing("channels")
	}
	if !r.channels {
		return invalid("channels", "channels is invalid with an IMGAPI not configured for channels")
	}
	a, ok := v.([]any)
	if !ok {
		return invalidf("channels", `invalid image "channels" (not an array): %s`, compact(v))
	}
	var errs []fieldError
	for _, e := range a {
		if _, ok := e.(string); !ok {
			errs = append(errs, invalidf("channels", `invalid image "channels" entry: %s`, compact(e))...)
		}
	}
	return errs
}

func checkUsers(m *object, _ rules) []fieldError {
	a, ok := m.get("users").([]any)
	if !ok {
		return invalidf("users", `invalid image "users" (not an array): %s`, compact(m.get("users")))
	}
	var errs []fieldError
	for _, e := range a {
		if u, ok := e.(*object); !ok || len(u.keys) != 1 || !u.has("name") {
			errs = append(errs, invalidf("users", `invalid image "users" entry: %s`, compact(e))...)
		}
	}
	return errs
}

func checkBillingTags(m *object, _ rules) []fieldError {
	a, ok := m.get("billing_tags").([]any)
	if !ok {
		return invalidf("billing_tags", `invalid image "billing_tags" (not an array): %s`, toString(m.get("billing_tags")))
	}
	var errs []fieldError
	for _, e := range a {
		if s, ok := e.(string); !ok || len(s) > 128 {
			errs = append(errs, invalidf("billing_tags", `invalid image "billing_tags" entry : %s`, toString(e))...)
		}
	}
	return errs
}

func checkTraits(m *object, _ rules) []fieldError {
	t, ok := m.get("traits").(*object)
	if !ok {
		return invalidf("traits", `invalid image "traits" (not an object): %s`, compact(m.get("traits")))
	}
	var errs []fieldError
	for _, k := range t.keys {
		switch v := t.get(k).(type) {
		case string, bool, []any:
		default:
			errs = append(errs, invalidf("traits", `invalid image "traits" entry: (%s, %s)`, k, compact(v))...)
		}
	}
	return errs
}

func checkTags(m *object, _ rules) []fieldError {
	t, ok := m.get("tags").(*object)
	if !ok {
		return invalidf("tags", `invalid image "tags" (not an object): %s`, compact(m.get("tags")))
	}
	if n := len(compact(t)); n > 100*1024 {
		return invalidf("tags", `image "tags" object is too big: %d characters (max %d)`, n, 100*1024)
	}
	return nil
}

func checkDirectories(m *object, _ rules) []fieldError {
	const f = "inherited_directories"
	v := m.get(f)
	if m.str("type") != "zone-dataset" {
		return invalidf(f, `invalid image "%s" (only valid for a type:zone-dataset image): %s`, f, compact(v))
	}
	a, ok := v.([]any)
	if !ok {
		return invalidf(f, `invalid image "%s" (not an array): %s`, f, compact(v))
	}
	var errs []fieldError
	for _, e := range a {
		if _, ok := e.(string); !ok {
			errs = append(errs, invalidf(f, `invalid image "%s" entry: %s`, f, compact(e))...)
		}
	}
	return errs
}

func checkRequirements(m *object, _ rules) []fieldError {
	v := m.get("requirements")
	reqs, ok := v.(*object)
	if !ok {
		return invalidf("requirements", `invalid image "requirements" (not an object): %s`, compact(v))
	}
	errs := checkNetworks(reqs)
	if b := reqs.get("brand"); truthy(b) {
		if _, ok := b.(string); !ok {
			errs = append(errs, invalidf("requirements.brand", `invalid image "requirements.brand" (not a string): %s`, compact(b))...)
		}
	}
	if k := reqs.get("ssh_key"); truthy(k) && k != true {
		errs = append(errs, invalidf("requirements.ssh_key", `invalid image "requirements.ssh_key" (not a boolean): %s`, compact(k))...)
	}
	errs = append(errs, checkRAM(reqs)...)
	for _, f := range []string{"min_platform", "max_platform"} {
		errs = append(errs, checkPlatform(reqs, f)...)
	}
	errs = append(errs, checkBootrom(reqs)...)
	known := []string{"networks", "brand", "ssh_key", "min_ram", "max_ram", "min_platform", "max_platform", "bootrom"}
	for _, k := range reqs.keys {
		if !slices.Contains(known, k) {
			errs = append(errs, invalidf(k, `unsupported requirement "%s"`, k)...)
		}
	}
	return errs
}

func checkNetworks(reqs *object) []fieldError {
	v := reqs.get("networks")
	if !truthy(v) {
		return nil
	}
	const f = "requirements.networks"
	a, ok := v.([]any)
	if !ok {
		return invalidf(f, `invalid image "%s" (not an array): %s`, f, compact(v))
	}
	var errs []fieldError
	for _, e := range a {
		if n, ok := e.(*object); !ok || len(n.keys) != 2 || !n.has("name") || !n.has("description") {
			errs = append(errs, invalidf(f, `invalid image "%s" entry: %s`, f, compact(e))...)
		}
	}
	return errs
}

func checkRAM(reqs *object) []fieldError {
	var errs []fieldError
	limit := map[string]float64{}
	for _, k := range []string{"min_ram", "max_ram"} {
		v := reqs.get(k)
		if !truthy(v) {
			continue
		}
		n, isNumber := v.(json.Number)
		f, err := n.Float64()
		if !isNumber || err != nil || f != math.Trunc(f) {
			errs = append(errs, invalidf("requirements."+k, `invalid image "requirements.%s" (not a positive integer): %s`, k, compact(v))...)
			continue
		}
		limit[k] = f
	}
	if lo, hi := limit["min_ram"], limit["max_ram"]; lo != 0 && hi != 0 && hi < lo {
		errs = append(errs, invalidf("requirements.max_ram", "min_ram must be <= max_ram, but:min_ram=%v, max_ram=%v", lo, hi)...)
	}
	return errs
}

func checkPlatform(reqs *object, k string) []fieldError {
	v := reqs.get(k)
	if !truthy(v) {
		return nil
	}
	f := "requirements." + k
	o, ok := v.(*object)
	if !ok || len(o.keys) == 0 {
		return invalidf(f, `invalid image "%s" (not an object): %s`, f, compact(v))
	}
	var errs []fieldError
	for _, p := range o.keys {
		if s := toString(o.get(p)); !validPlatform(s) {
			errs = append(errs, invalidf(f, `invalid image "%s" entry: "%s: %s" not a valid platform version`, f, p, s)...)
		}
	}
	return errs
}

// validPlatform judges a platform stamp such as 20130308T102805Z.
func validPlatform(s string) bool {
	if len(s) != 16 || s[8] != 'T' || s[15] != 'Z' {
		return false
	}
	for _, c := range []struct{ from, to, min, max int }{
		{0, 4, 2012, 9999}, {4, 6, 1, 12}, {6, 8, 1, 31}, {9, 11, 0, 23}, {11, 13, 0, 59}, {13, 15, 0, 59},
	} {
		n, err := strconv.Atoi(s[c.from:c.to])
		if err != nil || n < c.min || n > c.max {
			return false
		}
	}
	return true
}

func checkBootrom(reqs *object) []fieldError {
	v := reqs.get("bootrom")
	if !truthy(v) {
		return nil
	}
	const f = "requirements.bootrom"
	switch brand := reqs.get("brand"); {
	case !truthy(brand):
		return []fieldError{{f, "MissingParameter", `"requirements.brand" not specified. "requirements.bootrom" requires "requirements.brand" to be set to "bhyve"`}}
	case toString(brand) != "bhyve":
		return invalidf(f, `invalid bootrom "requirements.bootrom" not supported with "%s" brand; "requirements.brand" must be "bhyve"`, toString(brand))
	}
	if s := toString(v); s != "bios" && s != "uefi" {
		return invalidf(f, `invalid bootrom "requirements.bootrom" invalid entry "%s"; must be one of: bios, uefi`, s)
	}
	return nil
}

package instance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// UnsetOwner is the owner of every imported image of a standalone server.
const UnsetOwner = "00000000-0000-0000-0000-000000000000"

// The shapes below are those of imgmanifest, the library with which the server
// validates a manifest when it starts.
var (
	imageName    = regexp.MustCompile(`^[A-Za-z0-9._/ -]+$`)
	imageVersion = regexp.MustCompile(`^[A-Za-z0-9._/+-]+$`)
	publishedAt  = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z$`)
)

// Rejections lists why the server, configured as c, would leave this manifest out
// when it starts: it then logs a line and serves everything else. nil means that
// it serves it. The check covers the fields every image has; rarely used ones
// (requirements, users, traits) are not looked at.
func (m *Manifest) Rejections(c *Config) FieldErrors {
	var errs FieldErrors
	add := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
	for _, f := range m.missing {
		add(f, "missing")
	}
	m.rejectIdentity(add)
	m.rejectState(add)
	m.rejectFiles(add)
	m.rejectMode(c, add)
	return errs
}

type addFunc func(field, format string, args ...any)

func (m *Manifest) given(field string) bool { return !slices.Contains(m.missing, field) }

func (m *Manifest) rejectIdentity(add addFunc) {
	if m.given("owner") && !ValidUUID(m.Owner) {
		add("owner", "not a UUID: %q", clip(m.Owner))
	}
	if m.given("name") && (len(m.Name) > 512 || !imageName.MatchString(m.Name)) {
		add("name", "%q is not 1 to 512 letters, digits, space . _ / -", clip(m.Name))
	}
	if m.given("version") && (len(m.Version) > 128 || !imageVersion.MatchString(m.Version)) {
		add("version", "%q is not 1 to 128 letters, digits, . _ / + -", clip(m.Version))
	}
	if len(m.Description) > 512 {
		add("description", "%d bytes, more than 512", len(m.Description))
	}
	if m.Origin != "" && !ValidUUID(m.Origin) {
		add("origin", "not a UUID: %q", clip(m.Origin))
	}
	for _, a := range m.ACL {
		if !ValidUUID(a) {
			add("acl", "holds %q, which is not a UUID", clip(a))
			break
		}
	}
}

func (m *Manifest) rejectState(add addFunc) {
	states := []string{"active", "unactivated", "disabled", "failed", "creating"}
	if m.given("state") && !slices.Contains(states, m.state) {
		add("state", "must be one of %s, is %q", strings.Join(states, ", "), clip(m.state))
	}
	switch {
	case m.publishedAt == "" && m.Activated:
		add("published_at", "missing, although the image is activated")
	case m.publishedAt != "" && !publishedAt.MatchString(m.publishedAt):
		add("published_at", "%q is not a time like 2016-09-07T12:00:00.000Z", clip(m.publishedAt))
	}
	placeholder := m.state == "creating" || m.state == "failed"
	systems := []string{"smartos", "linux", "windows", "bsd", "illumos", "other"}
	if m.given("os") && !slices.Contains(systems, m.OS) && !(placeholder && m.OS == "null") {
		add("os", "must be one of %s, is %q", strings.Join(systems, ", "), clip(m.OS))
	}
	types := []string{"zone-dataset", "lx-dataset", "zvol", "docker", "lxd", "other"}
	if m.given("type") && !slices.Contains(types, m.Type) && !(placeholder && m.Type == "null") {
		add("type", "must be one of %s, is %q", strings.Join(types, ", "), clip(m.Type))
	}
	if m.Type == "zvol" && (m.zvol.nicDriver == "" || m.zvol.diskDriver == "" || m.zvol.imageSize == 0) {
		add("type", "a zvol needs nic_driver, disk_driver and image_size")
	}
}

func (m *Manifest) rejectFiles(add addFunc) {
	if m.Activated && m.Files == nil {
		add("files", "missing, although the image is activated")
	}
	if len(m.Files) > 1 {
		add("files", "has %d entries, more than one", len(m.Files))
		return
	}
	for _, f := range m.Files {
		if f.SHA1 == "" || f.Size == 0 {
			add("files", "needs sha1 and size")
		}
		if !slices.Contains([]string{"gzip", "bzip2", "xz", "none"}, f.Compression) {
			add("files", "compression must be gzip, bzip2, xz or none, is %q", clip(f.Compression))
		}
	}
	if i := m.Icon; i != nil && (i.ContentMD5 == "" || i.Size == 0 || i.ContentType == "") {
		add("icon", "needs contentMD5, size and contentType")
	}
}

// rejectMode holds the rules that a change of the configuration breaks for every
// manifest at once.
func (m *Manifest) rejectMode(c *Config, add addFunc) {
	if m.given("public") {
		switch {
		case c.Mode == ModePublic && !m.Public:
			add("public", "a server of mode public serves no private image")
		case c.Mode == ModePrivate && m.Public:
			add("public", "a server of mode private serves no public image")
		}
	}
	switch {
	case c.Channels == nil && m.Channels != nil:
		add("channels", "given, but the server has no channels")
	case c.Channels != nil && m.Channels == nil:
		add("channels", "missing, but the server has channels")
	}
}

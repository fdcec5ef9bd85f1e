package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxManifest is the largest manifest read, in bytes. Real ones have 1 to 2 KB;
// the server's limits on the single fields allow some 50 KB.
const MaxManifest = 4 << 20

// maxDepth bounds the nesting of a manifest. The server allows tags of 10 KB,
// which no sane client nests deeper.
const maxDepth = 1000

// ErrTorn is wrapped by the error of [ParseManifest] for a text that is empty or
// ends in the middle: the server rewrites manifests in place, so a reader can
// meet one half-written.
var ErrTorn = errors.New("half-written")

// Manifest is an image manifest, version 2. It is read both in the form the
// server keeps on disk (.raw) and in the form its API shows.
type Manifest struct {
	V           int
	UUID        string
	Name        string
	Version     string
	Description string
	Owner       string
	Public      bool
	Activated   bool // on disk a field of its own, in the API form part of the state
	Disabled    bool
	OS          string
	Type        string
	Origin      string    // uuid of the image this one is incremental to, or ""
	PublishedAt time.Time // zero where absent or not a time
	Channels    []string  // nil where absent
	ACL         []string  // accounts that see a private image
	Tags        map[string]any
	Files       []File
	Icon        *Icon // nil where absent; the API form says only that there is one

	state       string
	publishedAt string
	missing     []string // of the fields that the server requires
	zvol        zvolFields
}

// zvolFields are those that only an image of type zvol has.
type zvolFields struct {
	nicDriver, diskDriver string
	imageSize             int64
}

// File describes an image file. Only SHA1, Size and Compression are in every
// form.
type File struct {
	SHA1        string // 40 hexadecimal digits, of the bytes as stored
	Size        int64  // bytes as stored
	Compression string // "gzip", "bzip2", "xz" or "none"
	ContentMD5  string // base64, of the bytes as stored
	Stor        string // "local" or "manta"; "" in the public API form
	MTime       string
	DatasetGUID string
}

// Icon describes an image's icon.
type Icon struct {
	SHA1        string
	Size        int64
	ContentMD5  string
	ContentType string
	Stor        string
	MTime       string
}

// State is "active", "unactivated", "disabled", or what the manifest itself says
// ("creating", "failed").
func (m *Manifest) State() string {
	switch {
	case m.state != "":
		return m.state
	case !m.Activated:
		return "unactivated"
	case m.Disabled:
		return "disabled"
	}
	return "active"
}

// String is "name@version", for people.
func (m *Manifest) String() string { return m.Name + "@" + m.Version }

// ParseManifest parses a manifest. Unknown fields are passed over and null counts
// as absent. It refuses whatever is not one complete JSON object in valid UTF-8
// with a valid uuid, and a known field of the wrong type, naming the field. As in
// the server, field names are exact and of a repeated one the last counts.
//
// A manifest that parses may still be one that the server leaves out when it
// starts: see [Manifest.Rejections].
func ParseManifest(b []byte) (*Manifest, error) {
	if err := checkText(b); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		if endsInTheMiddle(b, err) {
			return nil, fmt.Errorf("manifest: ends in the middle: %w", ErrTorn)
		}
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return nil, fmt.Errorf("manifest: must be a JSON object, is a JSON %s", typ.Value)
		}
		return nil, fmt.Errorf("manifest: %w", jsonError(b, err))
	}
	if top == nil {
		return nil, errors.New("manifest: must be a JSON object, is null")
	}
	r := &manifestReader{fields: top}
	m := r.manifest()
	if r.err != nil {
		return nil, fmt.Errorf("manifest: %w", r.err)
	}
	return m, nil
}

// endsInTheMiddle says whether err came from the end of the text. The decoder then
// either says so or, within a literal, number or escape, pretends to have read a
// space there.
func endsInTheMiddle(b []byte, err error) bool {
	var syn *json.SyntaxError
	if !errors.As(err, &syn) {
		return false
	}
	return syn.Error() == "unexpected end of JSON input" ||
		syn.Offset == int64(len(b)) && b[len(b)-1] != ' ' && strings.HasPrefix(syn.Error(), "invalid character ' '")
}

// checkText refuses what the JSON decoder would accept or take too long over.
func checkText(b []byte) error {
	switch {
	case len(b) > MaxManifest:
		return fmt.Errorf("%d bytes, more than the %d a manifest may have", len(b), MaxManifest)
	case len(bytes.TrimSpace(b)) == 0:
		return fmt.Errorf("empty: %w", ErrTorn)
	case bytes.IndexByte(b, 0) >= 0:
		return fmt.Errorf("NUL byte at offset %d", bytes.IndexByte(b, 0))
	case !utf8.Valid(b):
		return errors.New("not valid UTF-8")
	}
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// TagString returns a tag whose value is a string, or "".
func (m *Manifest) TagString(key string) string {
	s, _ := m.Tags[key].(string)
	return s
}

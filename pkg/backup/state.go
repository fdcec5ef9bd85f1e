package backup

import (
	"cmp"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Entry is one file of the instance. Object entries have no SHA-256: their MD5
// is what the store proves on every upload and lists, and the manifest's SHA-1
// is checked against the bytes by a deep verify.
type Entry struct {
	Path   string // below /data/imgapi, slash-separated
	Size   int64  // bytes
	MD5    store.MD5
	SHA256 [sha256.Size]byte // inline entries only
}

var (
	manifestPath = regexp.MustCompile(`^manifests/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.raw$`)
	leftoverPath = regexp.MustCompile(`^images/[0-9a-f]{3}/[0-9a-f-]{36}/(file[0-9]{1,3}|icon)\.[^/]+$`) // an upload in progress, or one that failed
	imagePath    = regexp.MustCompile(`^images/([0-9a-f]{3})/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/(file[0-9]{1,3}|icon)$`)
	etcPath      = regexp.MustCompile(`^etc/(imgapi\.config\.json|authkeys/local/[A-Za-z0-9][A-Za-z0-9._@+-]{0,200}\.keys)$`)
)

// checkPath refuses every path that the instance's layout does not have. A path
// read from a store is checked with it before it is used as a file name.
func checkPath(p string) error {
	if err := store.CheckKey(p); err != nil {
		return err
	}
	if m := imagePath.FindStringSubmatch(p); m != nil {
		if strings.HasPrefix(m[2], m[1]) {
			return nil
		}
		return fmt.Errorf("%w: %q lies in another image's shard", store.ErrBadKey, p)
	}
	if manifestPath.MatchString(p) || etcPath.MatchString(p) {
		return nil
	}
	return fmt.Errorf("%w: %q is not a path of an image server's data", store.ErrBadKey, p)
}

// Inline says whether the log carries the bytes.
func (e Entry) Inline() bool { return !strings.HasPrefix(e.Path, "images/") }

// Manifest says whether the entry is an image manifest.
func (e Entry) Manifest() bool { return strings.HasPrefix(e.Path, "manifests/") }

// UUID returns the image the entry belongs to, or "" for files of etc.
func (e Entry) UUID() string { return pathUUID(e.Path) }

func pathUUID(p string) string {
	if m := manifestPath.FindStringSubmatch(p); m != nil {
		return m[1]
	}
	if m := imagePath.FindStringSubmatch(p); m != nil {
		return m[2]
	}
	return ""
}

// Same says whether two entries have the same content.
func (e Entry) Same(o Entry) bool {
	return e.Size == o.Size && e.MD5 == o.MD5 && e.SHA256 == o.SHA256
}

func inlineEntry(p string, content []byte) Entry {
	return Entry{Path: p, Size: int64(len(content)), MD5: md5.Sum(content), SHA256: sha256.Sum256(content)}
}

type entryJSON struct {
	Path   string `json:"path"`
	Delete bool   `json:"delete,omitempty"`
	Size   int64  `json:"size"`
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// MarshalJSON writes the form of docs/formats.md.
func (e Entry) MarshalJSON() ([]byte, error) {
	j := entryJSON{Path: e.Path, Size: e.Size, MD5: hex.EncodeToString(e.MD5[:])}
	if e.Inline() {
		j.SHA256 = hex.EncodeToString(e.SHA256[:])
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads it and refuses paths the layout does not have.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var j entryJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	got, err := j.entry()
	*e = got
	return err
}

func (j entryJSON) entry() (Entry, error) {
	e := Entry{Path: j.Path, Size: j.Size}
	if err := checkPath(j.Path); err != nil {
		return e, err
	}
	if j.Size < 0 {
		return e, fmt.Errorf("%s: size %d", j.Path, j.Size)
	}
	if err := unhex(e.MD5[:], j.MD5); err != nil {
		return e, fmt.Errorf("%s: md5: %w", j.Path, err)
	}
	if e.Inline() {
		if err := unhex(e.SHA256[:], j.SHA256); err != nil {
			return e, fmt.Errorf("%s: sha256: %w", j.Path, err)
		}
	}
	return e, nil
}

func unhex(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%d hexadecimal digits, not %d", len(s), 2*len(dst))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

// State is all entries at one moment, sorted by path. Its methods never change
// the receiver.
type State struct{ entries []Entry }

// NewState sorts entries and refuses a path that occurs twice.
func NewState(entries []Entry) (State, error) {
	slices.SortFunc(entries, byPath)
	for i := 1; i < len(entries); i++ {
		if entries[i].Path == entries[i-1].Path {
			return State{}, fmt.Errorf("%s: named twice", entries[i].Path)
		}
	}
	return State{entries}, nil
}

func byPath(a, b Entry) int { return cmp.Compare(a.Path, b.Path) }

// Entries returns the entries in path order; the caller must not change them.
func (s State) Entries() []Entry { return s.entries }

// Len returns the number of entries.
func (s State) Len() int { return len(s.entries) }

// Get finds an entry.
func (s State) Get(p string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(s.entries, p, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
	if !ok {
		return Entry{}, false
	}
	return s.entries[i], true
}

// Apply returns the state after deletes and then puts, each sorted by path.
func (s State) Apply(puts []Entry, deletes []string) State {
	out := make([]Entry, 0, len(s.entries)+len(puts))
	i := 0
	for _, e := range s.entries {
		for len(deletes) > 0 && deletes[0] < e.Path {
			deletes = deletes[1:]
		}
		for i < len(puts) && puts[i].Path < e.Path {
			out = append(out, puts[i])
			i++
		}
		switch {
		case i < len(puts) && puts[i].Path == e.Path:
			out = append(out, puts[i])
			i++
		case len(deletes) > 0 && deletes[0] == e.Path:
		default:
			out = append(out, e)
		}
	}
	return State{append(out, puts[i:]...)}
}

// Summary is what a state amounts to.
type Summary struct {
	Manifests int    `json:"manifests"`
	Files     int    `json:"files"` // image files and icons kept in the store
	Bytes     int64  `json:"bytes"` // of manifests and files
	SHA256    string `json:"sha256"`
}

// Summary counts the entries and hashes their list: one line per entry, "path
// size md5 sha256\n", the sha256 as 64 zeros for object entries.
func (s State) Summary() Summary {
	h := sha256.New()
	var sum Summary
	line := make([]byte, 0, 256)
	for _, e := range s.entries {
		line = fmt.Appendf(line[:0], "%s %d %x %x\n", e.Path, e.Size, e.MD5, e.SHA256)
		h.Write(line)
		switch {
		case e.Manifest():
			sum.Manifests++
		case !e.Inline():
			sum.Files++
		}
		sum.Bytes += e.Size
	}
	sum.SHA256 = hex.EncodeToString(h.Sum(nil))
	return sum
}

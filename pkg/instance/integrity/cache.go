package integrity

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/instance"
)

const (
	cacheVersion = 1
	// The bounds keep a damaged or hostile cache from eating the memory; one of
	// 100,000 files has 20 MB.
	maxCacheBytes   = 128 << 20
	maxCacheEntries = 500_000
	maxCacheKey     = 128
)

// Cache remembers which files were found good. It is safe for concurrent use.
//
// On disk it is one JSON object, {"version": 1, "files": {"<uuid>/<file>/<stor>":
// {"size", "sha1", "id", "checked_at"}}}; id is a digest of [Stat.ID]. An entry
// counts only while the manifest still says this size and SHA-1 and the file still
// has this id.
type Cache struct {
	mu    sync.Mutex
	m     map[cacheKey]cacheEntry
	dirty bool
}

// cacheKey and cacheEntry are kept small: there is one for every image file.
type cacheKey struct {
	uuid       [16]byte
	file, stor unique.Handle[string]
}

type cacheEntry struct {
	size    int64
	sha1    [20]byte
	id      [12]byte
	checked int64 // Unix time, seconds
}

// cacheLine is the form of an entry on disk.
type cacheLine struct {
	Size      int64     `json:"size"`
	SHA1      string    `json:"sha1"`
	ID        string    `json:"id"`
	CheckedAt time.Time `json:"checked_at"`
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{m: make(map[cacheKey]cacheEntry)} }

// LoadCache reads a cache. One that is absent, damaged, too large or of another
// version is an empty one; the error then says why (nil for an absent one), and
// nothing is lost but time.
func LoadCache(path string) (*Cache, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return NewCache(), nil
	}
	if err != nil {
		return NewCache(), err
	}
	defer f.Close()
	c, err := readCache(f)
	if err != nil {
		return NewCache(), fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// readCache decodes entry by entry, so that the text is never held whole.
func readCache(r io.Reader) (*Cache, error) {
	limited := &io.LimitedReader{R: r, N: maxCacheBytes}
	dec := json.NewDecoder(bufio.NewReaderSize(limited, 64<<10))
	c := NewCache()
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	version := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		switch {
		case key == "version":
			if err := dec.Decode(&version); err != nil {
				return nil, err
			}
		case version != cacheVersion: // it is written first
			return nil, fmt.Errorf("cache version %d, this program knows %d", version, cacheVersion)
		case key == "files":
			if err := c.readFiles(dec); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unknown field %q", key)
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	if version != cacheVersion {
		return nil, fmt.Errorf("cache version %d, this program knows %d", version, cacheVersion)
	}
	return c, nil
}

func (c *Cache) readFiles(dec *json.Decoder) error {
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var l cacheLine
		if err := dec.Decode(&l); err != nil {
			return err
		}
		name, _ := key.(string)
		k, e, ok := l.entry(name)
		if !ok {
			return fmt.Errorf("not an entry: %.60q", name)
		}
		if len(c.m) >= maxCacheEntries {
			return errors.New("more entries than a cache can have")
		}
		c.m[k] = e
	}
	return expect(dec, json.Delim('}'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	tok, err := dec.Token()
	if err == nil && tok != want {
		err = fmt.Errorf("not a cache: %v where %v belongs", tok, want)
	}
	return err
}

// Save writes the cache if it changed, making the directory where needed.
func (c *Cache) Save(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := durable.Write(path, 0o600, c.write); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

func (c *Cache) write(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(b, "{\"version\":%d,\"files\":{", cacheVersion)
	keys := slices.SortedFunc(maps.Keys(c.m), func(x, y cacheKey) int {
		return cmp.Or(bytes.Compare(x.uuid[:], y.uuid[:]), cmp.Compare(x.file.Value(), y.file.Value()), cmp.Compare(x.stor.Value(), y.stor.Value()))
	})
	for n, k := range keys {
		e := c.m[k]
		line, err := json.Marshal(cacheLine{e.size, hex.EncodeToString(e.sha1[:]), hex.EncodeToString(e.id[:]), time.Unix(e.checked, 0).UTC()})
		if err != nil {
			return err
		}
		if n > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(k.String())
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "\n%s:%s", name, line)
	}
	b.WriteString("\n}}\n")
	return b.Flush()
}

// Retain drops the entries of images for which keep says no.
func (c *Cache) Retain(keep func(uuid string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.m, func(k cacheKey, _ cacheEntry) bool {
		drop := !keep(formatUUID(k.uuid))
		c.dirty = c.dirty || drop
		return drop
	})
}

// Len is the number of files known as good.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.m)
}

// good says whether the file was found good as it is now, and when.
func (c *Cache) good(r Result, id string) (time.Time, bool) {
	k, e, ok := entryOf(r, id)
	if !ok {
		return time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.m[k]
	e.checked = have.checked
	return time.Unix(have.checked, 0).UTC(), ok && have == e
}

func (c *Cache) put(r Result, id string) {
	k, e, ok := entryOf(r, id)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[k] = e
	c.dirty = true
}

func (c *Cache) forget(r Result) {
	k, ok := keyOf(r.UUID, r.File, r.Stor)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, has := c.m[k]; ok && has {
		delete(c.m, k)
		c.dirty = true
	}
}

// entryOf is the entry for a file that is good now. ok is false for a file whose
// version or SHA-1 is not known: it cannot be remembered.
func entryOf(r Result, id string) (k cacheKey, e cacheEntry, ok bool) {
	k, ok = keyOf(r.UUID, r.File, r.Stor)
	digest := sha256.Sum256([]byte(id))
	e = cacheEntry{size: r.Size, id: [12]byte(digest[:12]), checked: r.CheckedAt.Unix()}
	n, err := hex.Decode(e.sha1[:], clipTo([]byte(r.SHA1), 2*len(e.sha1)))
	return k, e, ok && id != "" && err == nil && n == len(e.sha1) && len(r.SHA1) == 2*n
}

// entry reads the form on disk.
func (l cacheLine) entry(name string) (k cacheKey, e cacheEntry, ok bool) {
	parts := strings.Split(name, "/")
	if len(name) > maxCacheKey || len(parts) != 3 {
		return k, e, false
	}
	k, ok = keyOf(parts[0], parts[1], parts[2])
	sum, err1 := hex.DecodeString(l.SHA1)
	id, err2 := hex.DecodeString(l.ID)
	if err1 != nil || err2 != nil || len(sum) != len(e.sha1) || len(id) != len(e.id) {
		return k, e, false
	}
	return k, cacheEntry{l.Size, [20]byte(sum), [12]byte(id), l.CheckedAt.Unix()}, ok
}

func keyOf(uuid, file, stor string) (k cacheKey, ok bool) {
	k.file, k.stor = unique.Make(file), unique.Make(stor)
	if !instance.ValidUUID(uuid) {
		return k, false
	}
	_, err := hex.Decode(k.uuid[:], []byte(strings.ReplaceAll(uuid, "-", "")))
	return k, err == nil
}

// String is the form of a key on disk.
func (k cacheKey) String() string {
	return formatUUID(k.uuid) + "/" + k.file.Value() + "/" + k.stor.Value()
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

func clipTo(b []byte, n int) []byte { return b[:min(len(b), n)] }

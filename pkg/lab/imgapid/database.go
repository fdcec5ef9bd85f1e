package imgapid

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// rawFileRE is deliberately loose at its front, as upstream: what precedes the
// uuid is caught by comparing the file's uuid with its name.
var rawFileRE = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}.raw$`)

// database is the manifests in memory. Order is publishing time at start, and
// insertion after that. The cache holds parsed manifests that handlers change
// before they are on disk: when the write then fails, GetImage shows the change
// and listings do not, until the caches are dropped.
type database struct {
	mu     sync.Mutex
	images []*image
	byUUID map[string]int
	cache  map[string]*object
	names  map[string]string // interned field values
}

func newDatabase() *database {
	return &database{byUUID: map[string]int{}, cache: map[string]*object{}, names: map[string]string{}}
}

func (d *database) intern(s string) string {
	if v, ok := d.names[s]; ok {
		return v
	}
	if len(d.names) > 1<<16 {
		clear(d.names)
	}
	d.names[s] = s
	return s
}

func (d *database) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.images)
}

// list returns the images in memory order. The slice is not changed afterwards.
func (d *database) list() []*image {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.images)
}

func (d *database) find(uuid string) *image {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i, ok := d.byUUID[uuid]; ok {
		return d.images[i]
	}
	return nil
}

// get calls fn with the internal form of an image as GetImage sees it, under
// the lock. It returns false when there is no such image.
func (d *database) get(uuid string, fn func(raw *object)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	raw, ok := d.cache[uuid]
	if !ok {
		i, known := d.byUUID[uuid]
		if !known {
			return false
		}
		raw = d.images[i].object()
		if len(d.cache) >= 100 {
			clear(d.cache)
		}
		d.cache[uuid] = raw
	}
	fn(raw)
	return true
}

func (d *database) put(raw *object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	im := newImage(raw, d.intern)
	if i, ok := d.byUUID[im.uuid]; ok {
		d.images[i] = im
	} else {
		d.byUUID[im.uuid] = len(d.images)
		d.images = append(d.images, im)
	}
	delete(d.cache, im.uuid)
}

func (d *database) remove(uuid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cache, uuid)
	i, ok := d.byUUID[uuid]
	if !ok {
		return
	}
	d.images = slices.Delete(slices.Clone(d.images), i, i+1)
	delete(d.byUUID, uuid)
	for ; i < len(d.images); i++ {
		d.byUUID[d.images[i].uuid] = i
	}
}

func (d *database) dropCaches() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.cache)
}

// loaded is one file of the manifests directory after reading: an image, a
// warning, or an error that ends the start.
type loaded struct {
	image *image
	warn  string
	err   error
}

// loadDatabase reads the manifests directory once. What does not belong there,
// does not parse or breaks the rules is left out with a warning.
func loadDatabase(dir string, r rules, log *bunyan) (*database, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	log.put(30, fmt.Sprintf("reloading %d raw manifest files", len(entries)), nil)
	d := newDatabase()
	results := make([]loaded, len(entries))
	var wg sync.WaitGroup
	next := make(chan int, 64)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = d.loadFile(dir, entries[i].Name(), r)
			}
		})
	}
	for i := range entries {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, l := range results {
		switch {
		case l.err != nil:
			return nil, l.err
		case l.warn != "":
			log.put(40, l.warn, nil)
		default:
			d.images = append(d.images, l.image)
		}
	}
	slices.SortStableFunc(d.images, func(a, b *image) int { return int(min(max(a.ms-b.ms, -1), 1)) })
	for i, im := range d.images {
		d.byUUID[im.uuid] = i
	}
	return d, nil
}

func (d *database) loadFile(dir, name string, r rules) loaded {
	if !rawFileRE.MatchString(name) {
		return loaded{warn: fmt.Sprintf("%q file does not belong in db dir", name)}
	}
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return loaded{err: err}
	}
	raw, warn := loadManifest(strings.TrimSuffix(name, name[len(name)-4:]), b, r)
	if warn != "" {
		return loaded{warn: fmt.Sprintf("%q in database: %s", path, warn)}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return loaded{image: newImage(raw, d.intern)}
}

// loadManifest judges the bytes of one manifest file; a warning says why it is
// left out.
func loadManifest(uuid string, b []byte, r rules) (*object, string) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, "could not parse: " + err.Error()
	}
	raw, ok := v.(*object)
	if !ok {
		return nil, "not an object"
	}
	if raw.str("uuid") != uuid {
		return nil, fmt.Sprintf("file name uuid does not match content uuid %q", jsString(raw, "uuid"))
	}
	if err := r.normalize(raw); err != nil {
		return nil, "invalid manifest: " + err.Error()
	}
	return raw, ""
}

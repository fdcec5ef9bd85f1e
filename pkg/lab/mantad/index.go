package mantad

import (
	"encoding/hex"
	"slices"
	"sort"
	"strings"
)

// entry is one object or directory. Entries are never changed: a new version is a
// new entry, so that the pointer is the row's version for compare-and-set.
type entry struct {
	name   string
	dir    bool
	copies uint8
	pack   uint32 // 0: the body has a file of its own, or is empty
	off    int64
	size   int64
	mtime  int64 // milliseconds since 1970
	id     [16]byte
	md5    [16]byte
	ctype  string
	attrs  []attr
}

// attr is a stored header, lower case.
type attr struct{ name, value string }

func (e *entry) attr(name string) string {
	for _, a := range e.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// etag returns the object id as text, or "" for a directory.
func (e *entry) etag() string {
	if e.dir {
		return ""
	}
	return formatUUID(e.id)
}

func formatUUID(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// splitPath cuts a key into its directory and name.
func splitPath(key string) (dir, name string) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

// blockSize bounds the cost of one insertion into a directory of any size.
const blockSize = 512

// dirIndex holds the entries of one directory in byte order of their names, in
// blocks, so that neither insertion nor a page of a listing depends on how many
// there are.
type dirIndex struct {
	blocks [][]*entry
	n      int
}

// find returns the position of name, or where it would be inserted.
func (d *dirIndex) find(name string) (block, pos int, ok bool) {
	block = sort.Search(len(d.blocks), func(i int) bool { return d.blocks[i][0].name > name }) - 1
	if block < 0 {
		return 0, 0, false
	}
	b := d.blocks[block]
	pos = sort.Search(len(b), func(i int) bool { return b[i].name >= name })
	return block, pos, pos < len(b) && b[pos].name == name
}

func (d *dirIndex) get(name string) *entry {
	if b, i, ok := d.find(name); ok {
		return d.blocks[b][i]
	}
	return nil
}

// set puts e in its place and returns the entry that was there.
func (d *dirIndex) set(e *entry) *entry {
	if len(d.blocks) == 0 {
		d.blocks = [][]*entry{{e}}
		d.n = 1
		return nil
	}
	bi, i, ok := d.find(e.name)
	if ok {
		old := d.blocks[bi][i]
		d.blocks[bi][i] = e
		return old
	}
	b := slices.Insert(d.blocks[bi], i, e)
	d.blocks[bi] = b
	d.n++
	if len(b) > blockSize {
		// Names mostly arrive in order: then a full block stays nearly full.
		cut := len(b) / 2
		if bi == len(d.blocks)-1 && i == len(b)-1 {
			cut = len(b) - 1
		}
		tail := append(make([]*entry, 0, blockSize+1), b[cut:]...)
		clear(b[cut:])
		d.blocks[bi] = b[:cut]
		d.blocks = slices.Insert(d.blocks, bi+1, tail)
	}
	return nil
}

// del removes name and returns the entry that was there.
func (d *dirIndex) del(name string) *entry {
	bi, i, ok := d.find(name)
	if !ok {
		return nil
	}
	old := d.blocks[bi][i]
	d.blocks[bi] = slices.Delete(d.blocks[bi], i, i+1)
	if len(d.blocks[bi]) == 0 {
		d.blocks = slices.Delete(d.blocks, bi, bi+1)
	}
	d.n--
	return old
}

// ascend yields entries from name on, in order, until yield says no.
func (d *dirIndex) ascend(from string, yield func(*entry) bool) {
	if len(d.blocks) == 0 {
		return
	}
	bi, i, _ := d.find(from)
	for ; bi < len(d.blocks); bi, i = bi+1, 0 {
		for ; i < len(d.blocks[bi]); i++ {
			if !yield(d.blocks[bi][i]) {
				return
			}
		}
	}
}

// descend yields entries from name down; last says to begin at the end.
func (d *dirIndex) descend(from string, last bool, yield func(*entry) bool) {
	bi := len(d.blocks) - 1
	if bi < 0 {
		return
	}
	i := len(d.blocks[bi]) - 1
	if !last {
		var ok bool
		if bi, i, ok = d.find(from); !ok {
			i-- // find gives the place after the last smaller name
		}
	}
	for bi >= 0 {
		for ; i >= 0; i-- {
			if !yield(d.blocks[bi][i]) {
				return
			}
		}
		if bi--; bi >= 0 {
			i = len(d.blocks[bi]) - 1
		}
	}
}

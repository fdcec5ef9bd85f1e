package backup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// signature is what tells that a file was not touched since it was hashed.
type signature struct {
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // ns since the epoch
	CTime  int64  `json:"ctime"`
	Inode  uint64 `json:"ino"`
	Hashed int64  `json:"hashed"` // when the hash was taken, by the local clock
}

// settle is how long before its hashing a file must have been left alone: within
// a clock tick a second write can leave size and times as they were.
const settle = 2 * time.Second

// trusts says whether a file that now looks like now still has the content that
// was hashed when it looked like s.
func (s signature) trusts(now signature) bool {
	if s.Hashed == 0 || s.Size != now.Size || s.MTime != now.MTime || s.CTime != now.CTime || s.Inode != now.Inode {
		return false
	}
	return s.Hashed-max(s.MTime, s.CTime) >= int64(settle)
}

// cacheHeader opens the cache file: where in which log its entries stand.
type cacheHeader struct {
	Version int       `json:"version"`
	StoreID string    `json:"store_id"`
	Seq     uint64    `json:"seq"`
	SHA256  string    `json:"sha256"`
	HeadMD5 string    `json:"head_md5"` // of record Seq, as the store lists it
	Epoch   uint64    `json:"epoch"`
	Time    time.Time `json:"time"`
	Writer  Writer    `json:"writer"`
	Entries int       `json:"entries"`
	State   string    `json:"state"` // SHA-256 of the state: what is published is measured against it
}

type cacheLineJSON struct {
	Entry Entry      `json:"e"`
	Sig   *signature `json:"s,omitempty"`
}

const cacheVersion = 2

// cache remembers the state at the last position this instance reached, and for
// each file how it looked when it was hashed. It saves requests and reading,
// nothing depends on it: without it both are done again.
type cache struct {
	cacheHeader
	state State
	sigs  map[string]signature
}

func (c *cache) position() Position {
	return Position{Seq: c.Seq, SHA256: c.SHA256, Epoch: c.Epoch, Time: c.Time, Writer: c.Writer, State: c.state}
}

// loadCache reads the cache; a missing, damaged or older one is an empty one.
func loadCache(path string) *cache {
	c, err := readCache(path)
	if err != nil {
		return &cache{sigs: map[string]signature{}}
	}
	return c
}

func readCache(path string) (*cache, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(f, 256<<10))
	c := &cache{sigs: map[string]signature{}}
	if err := dec.Decode(&c.cacheHeader); err != nil {
		return nil, err
	}
	if c.Version != cacheVersion || c.Entries < 0 {
		return nil, fmt.Errorf("%s: version %d", path, c.Version)
	}
	var entries []Entry
	for {
		var l cacheLineJSON
		if err := dec.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		entries = append(entries, l.Entry)
		if l.Sig != nil {
			c.sigs[l.Entry.Path] = *l.Sig
		}
	}
	if len(entries) != c.Entries {
		return nil, errors.New("cut short")
	}
	if c.state, err = NewState(entries); err == nil && c.state.Summary().SHA256 != c.State {
		err = errors.New("damaged")
	}
	return c, err
}

func (c *cache) save(path string) error {
	c.Version, c.Entries, c.State = cacheVersion, c.state.Len(), c.state.Summary().SHA256
	return durable.Write(path, 0o600, func(w io.Writer) error {
		bw := bufio.NewWriterSize(w, 256<<10)
		enc := json.NewEncoder(bw)
		if err := enc.Encode(c.cacheHeader); err != nil {
			return err
		}
		for _, e := range c.state.entries {
			l := cacheLineJSON{Entry: e}
			if s, ok := c.sigs[e.Path]; ok {
				l.Sig = &s
			}
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		return bw.Flush()
	})
}

func signatureOf(fi fs.FileInfo) signature {
	s := signature{Size: fi.Size(), MTime: fi.ModTime().UnixNano()}
	s.CTime, s.Inode = changeTime(fi)
	return s
}

package backup

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"hash"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// sums hashes an image file's bytes both ways they are named by: MD5 in stores,
// SHA-1 in manifests.
type sums struct{ m, s hash.Hash }

func newSums() sums { return sums{md5.New(), sha1.New()} }

func (s sums) Write(p []byte) (int, error) {
	s.m.Write(p)
	return s.s.Write(p)
}

func (s sums) md5() (sum store.MD5) {
	s.m.Sum(sum[:0])
	return sum
}

func (s sums) sha1() string { return hex.EncodeToString(s.s.Sum(nil)) }

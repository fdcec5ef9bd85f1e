package sshkey

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Fingerprint is a parsed key fingerprint, MD5 or SHA-256.
type Fingerprint struct {
	md5, sha256 []byte // exactly one is set
}

// ParseFingerprint reads the usual forms: MD5 as hex with or without colons and
// with or without "MD5:", or "SHA256:" and base64.
func ParseFingerprint(id string) (Fingerprint, error) {
	s := strings.TrimSpace(id)
	if rest, ok := cutPrefixFold(s, "SHA256:"); ok {
		sum, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(rest, "="))
		if err != nil || len(sum) != sha256.Size {
			return Fingerprint{}, fmt.Errorf("fingerprint %q: not the base64 of a SHA-256", id)
		}
		return Fingerprint{sha256: sum}, nil
	}
	s, _ = cutPrefixFold(s, "MD5:")
	sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(sum) != md5.Size {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: neither MD5 (16 hex bytes, colons optional) nor SHA256:base64", id)
	}
	return Fingerprint{md5: sum}, nil
}

// cutPrefixFold is strings.CutPrefix without regard to case.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// Matches says whether pub has this fingerprint.
func (f Fingerprint) Matches(pub ssh.PublicKey) bool {
	blob := pub.Marshal()
	if f.sha256 != nil {
		sum := sha256.Sum256(blob)
		return bytes.Equal(f.sha256, sum[:])
	}
	sum := md5.Sum(blob)
	return bytes.Equal(f.md5, sum[:])
}

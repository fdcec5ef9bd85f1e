package manta

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"github.com/joyent/triton-go/authentication"

	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

var _ authentication.Signer = (*Signer)(nil)

// Signer signs requests of one account, or one sub-user of it, with one key. It
// implements triton-go's authentication.Signer, so it serves Manta and CloudAPI.
//
// Only the Date header is signed, so every request of one second carries the same
// signature: it is made once and shared. The service keeps no record of seen
// signatures. Safe for concurrent use.
type Signer struct {
	key           *sshkey.Key
	account, user string

	mu    sync.Mutex
	cache [2]signed // the newest first; two, because a second begins while others still sign the last
}

type signed struct {
	date   string
	manta  bool
	header string
}

// NewSigner returns a signer for account, or for its sub-user if subUser is not
// empty.
func NewSigner(key *sshkey.Key, account, subUser string) (*Signer, error) {
	if key == nil {
		return nil, fmt.Errorf("signer of %q: no key", account)
	}
	if err := checkLogin("account", account); err != nil {
		return nil, err
	}
	if subUser != "" {
		if err := checkLogin("sub-user", subUser); err != nil {
			return nil, err
		}
	}
	return &Signer{key: key, account: account, user: subUser}, nil
}

// checkLogin refuses what could not be a login and would break out of a header or
// a path.
func checkLogin(what, s string) error {
	ok := s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\/,`, r) })
	if !ok || s == "." || s == ".." {
		return fmt.Errorf("%s %q: not a login name", what, s)
	}
	return nil
}

// DefaultAlgorithm returns the algorithm name as it goes on the wire.
func (s *Signer) DefaultAlgorithm() string { return s.key.Algorithm() }

// KeyFingerprint returns the fingerprint in the form of the wire, MD5 with colons.
func (s *Signer) KeyFingerprint() string { return s.key.MD5() }

// Key returns the key, for messages about it.
func (s *Signer) Key() *sshkey.Key { return s.key }

// KeyID returns the keyId of the Authorization header. The services differ in the
// path of a sub-user's key.
func (s *Signer) KeyID(isManta bool) string {
	switch {
	case s.user == "":
		return "/" + s.account + "/keys/" + s.key.MD5()
	case isManta:
		return "/" + s.account + "/" + s.user + "/keys/" + s.key.MD5()
	}
	return "/" + s.account + "/users/" + s.user + "/keys/" + s.key.MD5()
}

// Sign returns the Authorization header for a request with this Date header.
func (s *Signer) Sign(dateHeader string, isManta bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cache {
		if c.date == dateHeader && c.manta == isManta && c.header != "" {
			return c.header, nil
		}
	}
	sig, algorithm, err := s.SignRaw("date: " + dateHeader)
	if err != nil {
		return "", err
	}
	header := fmt.Sprintf(`Signature keyId="%s",algorithm="%s",headers="date",signature="%s"`, s.KeyID(isManta), algorithm, sig)
	s.cache = [2]signed{{dateHeader, isManta, header}, s.cache[0]}
	return header, nil
}

// SignRaw signs a string and returns the signature in base64 and the algorithm.
func (s *Signer) SignRaw(toSign string) (signature, algorithm string, err error) {
	sig, algorithm, err := s.key.Sign([]byte(toSign))
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(sig), algorithm, nil
}

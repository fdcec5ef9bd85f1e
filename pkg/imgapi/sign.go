package imgapi

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// Signer signs for one user of an image server. Only RSA keys are of use: the
// server verifies rsa-sha1 and rsa-sha256 and answers 401 to anything else.
type Signer interface {
	// User is the bare user name: the name of the .keys file that holds the public
	// key.
	User() string
	// SignRSASHA256 returns the PKCS #1 v1.5 signature of data.
	SignRSASHA256(data []byte) ([]byte, error)
}

// NewSigner returns a signer for user over an RSA private key: one in memory or
// held by an agent.
func NewSigner(user string, key crypto.Signer) (Signer, error) {
	if err := checkUser(user); err != nil {
		return nil, err
	}
	if _, ok := key.Public().(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("key of %s: it is a %T, and image servers verify RSA keys only", user, key.Public())
	}
	return signer{user, key}, nil
}

type signer struct {
	user string
	key  crypto.Signer
}

func (s signer) User() string { return s.user }

func (s signer) SignRSASHA256(data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// objectMembers end a stock server that meets them as a key id: it looks the
// user up in a plain JavaScript object.
func objectMembers() []string {
	return []string{"constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString",
		"toString", "valueOf", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}
}

func checkUser(user string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$`).MatchString(user) || slices.Contains(objectMembers(), user) {
		return fmt.Errorf("user %q: not a usable user name for an image server", user)
	}
	return nil
}

// sign adds Date and Authorization to r.
func sign(r *http.Request, s Signer, now time.Time) error {
	if err := checkUser(s.User()); err != nil {
		return err
	}
	date := now.UTC().Format(http.TimeFormat)
	sig, err := s.SignRSASHA256([]byte("date: " + date))
	if err != nil {
		return fmt.Errorf("key of %s: %w", s.User(), err)
	}
	r.Header.Set("Date", date)
	r.Header.Set("Authorization", fmt.Sprintf(`Signature keyId="%s",algorithm="rsa-sha256",headers="date",signature="%s"`,
		s.User(), base64.StdEncoding.EncodeToString(sig)))
	return nil
}

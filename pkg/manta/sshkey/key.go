// Package sshkey loads the SSH keys that Triton and Manta accept and signs with
// them: RSA, ECDSA and Ed25519, from PEM (PKCS#1, PKCS#8, EC) and OpenSSH files
// or from an ssh-agent. [Find] looks where the services' own tools look.
//
// A signature is returned together with the algorithm name of the HTTP
// signature scheme (draft-cavage): rsa-sha256, ecdsa-sha256, ecdsa-sha512 or
// ed25519-sha512. A P-384 key signs with SHA-512: the http-signature parser of
// the services (1.4.0) knows sha1, sha256 and sha512 only.
package sshkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The errors callers decide on.
var (
	ErrNotFound   = errors.New("no such key")
	ErrMismatch   = errors.New("key does not have this fingerprint")
	ErrPassphrase = errors.New("passphrase needed or wrong")
	ErrBadKey     = errors.New("not a usable private key")
)

// Passphrase asks for the passphrase of an encrypted key. It is called only when
// one is needed, and again, at most three times in all, when it was wrong.
type Passphrase func(prompt string) ([]byte, error)

// Key is a key that can sign. It is safe for concurrent use.
type Key struct {
	pub       ssh.PublicKey
	comment   string
	origin    string
	algorithm string
	sign      func(data []byte) (sig []byte, algorithm string, err error)

	// Warning is a remark for people about where the key was found, such as a file
	// that others can read; empty if there is none.
	Warning string
}

// Origin says where the key came from: a file path, or "ssh-agent".
func (k *Key) Origin() string { return k.origin }

// Algorithm is the name of the signature algorithm, as it goes on the wire.
func (k *Key) Algorithm() string { return k.algorithm }

// MD5 returns the fingerprint as "aa:bb:..." (16 bytes), the form the services use.
func (k *Key) MD5() string { return ssh.FingerprintLegacyMD5(k.pub) }

// SHA256 returns the fingerprint as OpenSSH shows it, "SHA256:...".
func (k *Key) SHA256() string { return ssh.FingerprintSHA256(k.pub) }

// Public returns the public half.
func (k *Key) Public() ssh.PublicKey { return k.pub }

// AuthorizedKey returns the public half as a line of an authorized_keys file,
// without the line end: what an account needs to be given.
func (k *Key) AuthorizedKey() string {
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(k.pub)), "\n")
	if k.comment != "" {
		line += " " + k.comment
	}
	return line
}

// Sign signs data (not a digest) and returns the raw signature (DER for ECDSA,
// 64 bytes for Ed25519) and the algorithm it used.
func (k *Key) Sign(data []byte) (sig []byte, algorithm string, err error) {
	sig, algorithm, err = k.sign(data)
	if err != nil {
		return nil, "", fmt.Errorf("key %s: sign: %w", k.origin, err)
	}
	return sig, algorithm, nil
}

// Check says whether id, a fingerprint in any usual form, is this key's.
// The error wraps ErrMismatch and names both.
func (k *Key) Check(id string) error {
	fp, err := ParseFingerprint(id)
	if err != nil {
		return err
	}
	if !fp.Matches(k.pub) {
		return fmt.Errorf("key %s: fingerprint is %s (%s), not %s: %w", k.origin, k.MD5(), k.SHA256(), id, ErrMismatch)
	}
	return nil
}

// New makes a Key of a private key as the standard library's parsers return it:
// *rsa.PrivateKey, *ecdsa.PrivateKey on P-256, P-384 or P-521, ed25519.PrivateKey.
// origin names it in errors.
func New(private any, origin string) (*Key, error) {
	if p, ok := private.(*ed25519.PrivateKey); ok {
		private = *p
	}
	k := &Key{origin: origin}
	var signer crypto.Signer
	var hash crypto.Hash
	switch p := private.(type) {
	case *rsa.PrivateKey:
		signer, hash, k.algorithm = p, crypto.SHA256, "rsa-sha256"
	case *ecdsa.PrivateKey:
		signer, hash, k.algorithm = p, crypto.SHA512, "ecdsa-sha512"
		if p.Curve.Params().BitSize <= 256 {
			hash, k.algorithm = crypto.SHA256, "ecdsa-sha256"
		}
	case ed25519.PrivateKey:
		signer, hash, k.algorithm = p, crypto.Hash(0), "ed25519-sha512"
	default:
		return nil, fmt.Errorf("key %s: %T: RSA, ECDSA and Ed25519 keys are accepted: %w", origin, private, ErrBadKey)
	}
	pub, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("key %s: %w: %w", origin, ErrBadKey, err)
	}
	k.pub = pub
	k.sign = func(data []byte) ([]byte, string, error) {
		sig, err := signer.Sign(rand.Reader, digest(hash, data), hash)
		return sig, k.algorithm, err
	}
	return k, nil
}

// digest hashes data; Ed25519 hashes for itself and gets it as it is.
func digest(h crypto.Hash, data []byte) []byte {
	switch h {
	case crypto.SHA256:
		d := sha256.Sum256(data)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(data)
		return d[:]
	}
	return data
}

package sshkey

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile bounds what is read as a key; a 16384-bit RSA key takes 13 KiB.
const maxKeyFile = 64 << 10

// passphraseTries is how often a wrong passphrase is asked for again, as ssh does.
const passphraseTries = 3

// Load reads a private key file. A file that group or others may read is used,
// and said so in Warning. ask may be nil: an encrypted key is then ErrPassphrase.
func Load(path string, ask Passphrase) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("key %s: not a regular file of at most %d bytes: %w", path, maxKeyFile, ErrBadKey)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	k, err := Parse(data, path, ask)
	clear(data)
	if err != nil {
		return nil, err
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		k.Warning = fmt.Sprintf("key %s: others can read it (mode %04o)", path, perm)
	}
	if pub, comment, err := readPublic(path + ".pub"); err == nil && string(pub.Marshal()) == string(k.pub.Marshal()) {
		k.comment = comment
	}
	return k, nil
}

// Parse reads a private key in PEM (PKCS#1, PKCS#8, EC; encrypted or not) or
// OpenSSH form. origin names it in errors and in the passphrase prompt.
func Parse(data []byte, origin string, ask Passphrase) (*Key, error) {
	raw, err := parseRaw(data, nil)
	if err == nil {
		return New(raw, origin)
	}
	var missing *ssh.PassphraseMissingError
	if !errors.As(err, &missing) {
		return nil, fmt.Errorf("key %s: %w: %w", origin, ErrBadKey, err)
	}
	if ask == nil {
		return nil, fmt.Errorf("key %s: it is encrypted: %w", origin, ErrPassphrase)
	}
	for range passphraseTries {
		pass, err := ask(fmt.Sprintf("passphrase of key %s", origin))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w: %w", origin, ErrPassphrase, err)
		}
		raw, err := parseRaw(data, pass)
		clear(pass)
		if err == nil {
			return New(raw, origin)
		}
		if !errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("key %s: %w: %w", origin, ErrBadKey, err)
		}
	}
	return nil, fmt.Errorf("key %s: wrong passphrase: %w", origin, ErrPassphrase)
}

// parseRaw decodes one key. With no passphrase an encrypted key is
// *ssh.PassphraseMissingError; with a wrong one x509.IncorrectPasswordError.
func parseRaw(data, pass []byte) (any, error) {
	block, _ := pem.Decode(data)
	if block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		if pass == nil {
			return nil, &ssh.PassphraseMissingError{}
		}
		der, err := decryptPKCS8(block.Bytes, pass)
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil { // right padding by chance, so garbage
			return nil, x509.IncorrectPasswordError
		}
		return key, nil
	}
	if pass == nil {
		return ssh.ParseRawPrivateKey(data)
	}
	key, err := ssh.ParseRawPrivateKeyWithPassphrase(data, pass)
	if err != nil && block != nil && block.Headers["DEK-Info"] != "" {
		return nil, x509.IncorrectPasswordError // old PEM has no checksum: a wrong passphrase may look like garbage
	}
	return key, err
}

// readPublic reads a .pub file.
func readPublic(path string) (ssh.PublicKey, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, "", fmt.Errorf("key %s: not a regular file: %w", path, ErrBadKey)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, "", err
	}
	pub, comment, _, _, err := ssh.ParseAuthorizedKey(data)
	return pub, comment, err
}

package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"golang.org/x/crypto/ssh"
)

// keyPair is a public key as files and fingerprints have it.
type keyPair struct {
	authorized string // "ssh-rsa AAAA... comment"
	md5        string // aa:bb:...
	sha256     string // SHA256:...
}

func describeKey(pub ssh.PublicKey, comment string) keyPair {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	sum := md5.Sum(pub.Marshal())
	pairs := make([]string, len(sum))
	for i := range sum {
		pairs[i] = hex.EncodeToString(sum[i : i+1])
	}
	return keyPair{authorized: line + " " + comment, md5: strings.Join(pairs, ":"), sha256: ssh.FingerprintSHA256(pub)}
}

// makeKey writes path and path.pub as ssh-keygen does, unless they are there.
// PEM form is understood by every client; OpenSSH form is what ssh-keygen makes.
func makeKey(path, comment string, openssh bool, generate func() (crypto.Signer, error)) (keyPair, error) {
	if pub, err := os.ReadFile(path + ".pub"); err == nil {
		key, note, _, _, err := ssh.ParseAuthorizedKey(pub)
		if err != nil {
			return keyPair{}, fmt.Errorf("%s.pub: %w", path, err)
		}
		return describeKey(key, note), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return keyPair{}, err
	}
	priv, err := generate()
	if err != nil {
		return keyPair{}, err
	}
	block, err := encodeKey(priv, comment, openssh)
	if err != nil {
		return keyPair{}, err
	}
	pub, err := ssh.NewPublicKey(priv.Public())
	if err != nil {
		return keyPair{}, err
	}
	kp := describeKey(pub, comment)
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return keyPair{}, err
	}
	// the public key is written last: its presence says that the pair is whole
	if err := durable.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return keyPair{}, err
	}
	return kp, durable.WriteFile(path+".pub", []byte(kp.authorized+"\n"), 0o644)
}

func encodeKey(priv crypto.Signer, comment string, openssh bool) (*pem.Block, error) {
	if openssh {
		return ssh.MarshalPrivateKey(priv, comment)
	}
	key, ok := priv.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%T: only RSA keys are written in PEM form", priv)
	}
	return &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, nil
}

func newRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func newECDSA() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// makeCert writes a self-signed certificate and its key into one file, as the
// stock set-up does: CN=*, one year. Names and loopback addresses are added so
// that the file also serves clients that verify against it.
func makeCert(path, commonName string, now time.Time) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	both := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both = append(both, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, both, 0o600)
}

// tlsFrom reads a file with certificate and key.
func tlsFrom(path string) (*tls.Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

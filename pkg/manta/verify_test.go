package manta

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

var authorization = regexp.MustCompile(`^Signature keyId="([^"]+)",algorithm="([^"]+)",headers="date",signature="([^"]+)"$`)

// verify checks the signature of a request the way the service does.
func verify(r *http.Request, key *sshkey.Key) error {
	m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return errors.New("authorization header has another form")
	}
	date := r.Header.Get("Date")
	if !strings.HasSuffix(date, " GMT") {
		return fmt.Errorf("date %q is not GMT", date)
	}
	t, err := http.ParseTime(date)
	if err != nil || time.Since(t).Abs() > 300*time.Second {
		return fmt.Errorf("date %q is skewed", date)
	}
	return verifySignature(key, m[2], "date: "+date, m[3])
}

func verifySignature(key *sshkey.Key, algorithm, text, signature string) error {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return err
	}
	s256, s512 := sha256.Sum256([]byte(text)), sha512.Sum512([]byte(text))
	digest := map[string][]byte{"sha256": s256[:], "sha512": s512[:]}
	kind, hash, _ := strings.Cut(algorithm, "-")
	ok := false
	pub := key.Public().(interface{ CryptoPublicKey() crypto.PublicKey }).CryptoPublicKey()
	switch p := pub.(type) {
	case *rsa.PublicKey:
		ok = algorithm == "rsa-sha256" && rsa.VerifyPKCS1v15(p, crypto.SHA256, s256[:], sig) == nil
	case *ecdsa.PublicKey:
		ok = kind == "ecdsa" && digest[hash] != nil && ecdsa.VerifyASN1(p, digest[hash], sig)
	case ed25519.PublicKey:
		ok = algorithm == "ed25519-sha512" && ed25519.Verify(p, []byte(text), sig)
	}
	if !ok {
		return fmt.Errorf("signature of algorithm %s does not match", algorithm)
	}
	return nil
}

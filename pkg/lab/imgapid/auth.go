package imgapid

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxSkew is how far the signed date may be from the server's clock.
const maxSkew = 300 * time.Second

// A signature is the parameters of an Authorization header of the old
// HTTP Signature draft.
type signature struct {
	keyID, algorithm, value string
	headers                 []string
}

// parseSignature reads the header as the upstream parser does: the scheme is
// case-sensitive, every value is quoted, and nothing may stand between a comma
// and the next name.
func parseSignature(header string, defaultHeader string) (signature, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	params := map[string]string{}
	for first := true; rest != "" || !first; first = false {
		if !first {
			if rest == "" {
				break
			}
			if rest[0] != ',' {
				return signature{}, fmt.Errorf("bad param format")
			}
			rest = rest[1:]
		}
		n := 0
		for n < len(rest) && (rest[n]|0x20 >= 'a' && rest[n]|0x20 <= 'z') {
			n++
		}
		if n == len(rest) {
			break
		}
		if n == 0 || !strings.HasPrefix(rest[n:], `="`) {
			return signature{}, fmt.Errorf("bad param format")
		}
		name := rest[:n]
		rest = rest[n+2:]
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			break
		}
		params[name], rest = rest[:end], rest[end+1:]
	}
	return checkSignature(scheme, params, defaultHeader)
}

func checkSignature(scheme string, params map[string]string, defaultHeader string) (signature, error) {
	if scheme != "Signature" {
		return signature{}, fmt.Errorf(`scheme was not "Signature"`)
	}
	for _, k := range []string{"keyId", "algorithm", "signature"} {
		if params[k] == "" {
			return signature{}, fmt.Errorf("%s was not specified", k)
		}
	}
	s := signature{keyID: params["keyId"], algorithm: strings.ToLower(params["algorithm"]), value: params["signature"],
		headers: []string{defaultHeader}}
	if h := params["headers"]; h != "" {
		s.headers = strings.Split(strings.ToLower(h), " ")
	}
	known := []string{"rsa-sha1", "rsa-sha256", "rsa-sha512", "dsa-sha1", "hmac-sha1", "hmac-sha256", "hmac-sha512"}
	if !slices.Contains(known, s.algorithm) {
		return signature{}, fmt.Errorf("%s is not supported", s.algorithm)
	}
	return s, nil
}

// signed rebuilds the text the client signed.
func (s signature) signed(r *http.Request) (string, error) {
	lines := make([]string, 0, len(s.headers))
	for _, h := range s.headers {
		if h == "request-line" {
			lines = append(lines, fmt.Sprintf("%s %s HTTP/%d.%d", r.Method, r.RequestURI, r.ProtoMajor, r.ProtoMinor))
			continue
		}
		v := header(r, h)
		if v == "" {
			return "", fmt.Errorf("%s was not in the request", h)
		}
		lines = append(lines, h+": "+v)
	}
	return strings.Join(lines, "\n"), nil
}

// header is a request header by name; Go keeps Host elsewhere and takes
// Content-Length out of the map in some cases.
func header(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		if r.ContentLength >= 0 && r.Header.Get("Content-Length") == "" && r.Body != http.NoBody {
			return strconv.FormatInt(r.ContentLength, 10)
		}
	}
	return strings.Join(r.Header.Values(name), ", ")
}

func unauthorized(format string, args ...any) *apiError {
	return errCode("UnauthorizedError", format, args...)
}

// authenticate returns the caller's name. With passive a request without
// Authorization is nobody's and passes; a bad one never does.
func (p *Process) authenticate(r *http.Request, passive bool) (string, error) {
	if p.set.AuthType == "none" {
		return "", nil
	}
	auth := r.Header.Get("Authorization")
	if auth == "" {
		if passive {
			return "", nil
		}
		return "", unauthorized("Unauthorized")
	}
	dateHeader := "date"
	if r.Header.Get("X-Date") != "" {
		dateHeader = "x-date"
	}
	sig, err := parseSignature(auth, dateHeader)
	if err != nil {
		return "", unauthorized("%s", err)
	}
	text, err := sig.signed(r)
	if err != nil {
		return "", unauthorized("%s", err)
	}
	if err := p.checkDate(r, dateHeader, sig); err != nil {
		return "", err
	}
	if sig.algorithm != "rsa-sha1" && sig.algorithm != "rsa-sha256" && sig.algorithm != "dsa-sha1" {
		return "", unauthorized("Unauthorized (%q is not a supported http-signature signing algorithm)", strings.ToUpper(sig.algorithm))
	}
	// The upstream key table is a plain object: names that every object has are
	// found in it, and what is found is not a list of keys.
	if slices.Contains([]string{"constructor", "__proto__", "toString", "toLocaleString", "valueOf", "hasOwnProperty",
		"isPrototypeOf", "propertyIsEnumerable", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}, sig.keyID) {
		return "", crashf("AssertionError: authKeys[%q] (arrayOfString) is required", sig.keyID)
	}
	for _, key := range p.keys.of(sig.keyID) {
		if verify(key, sig, text) {
			return sig.keyID, nil
		}
	}
	return "", unauthorized("Unauthorized")
}

// checkDate holds the date against the clock. One that cannot be parsed passes,
// as upstream.
func (p *Process) checkDate(r *http.Request, name string, sig signature) error {
	if v := r.Header.Get(name); v != "" {
		if t, ok := parseDate(v); ok {
			if skew := p.cfg.Now().Sub(t).Abs(); skew > maxSkew {
				return unauthorized("clock skew of %ss was greater than 300s", strconv.FormatFloat(skew.Seconds(), 'f', -1, 64))
			}
		}
	}
	if !slices.Contains(sig.headers, name) {
		return unauthorized("%s was not a signed header", name)
	}
	return nil
}

func verify(key *rsa.PublicKey, sig signature, text string) bool {
	raw, err := base64.StdEncoding.DecodeString(sig.value)
	if err != nil {
		return false
	}
	switch sig.algorithm {
	case "rsa-sha1":
		sum := sha1.Sum([]byte(text))
		return rsa.VerifyPKCS1v15(key, crypto.SHA1, sum[:], raw) == nil
	case "rsa-sha256":
		sum := sha256.Sum256([]byte(text))
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) == nil
	}
	return false // dsa-sha1 is allowed upstream, but the lab hands out no DSA keys
}

// keyring is the users' public keys: from the configuration and from the files
// NAME.keys, read at start and on reload only.
type keyring struct {
	at     layout
	config map[string][]string
	kinds  []string // directories that are read
	mu     sync.Mutex
	users  map[string][]*rsa.PublicKey
}

func newKeyring(at layout, config map[string][]string, manta bool) *keyring {
	k := &keyring{at: at, config: config, kinds: []string{"local"}, users: map[string][]*rsa.PublicKey{}}
	if manta {
		k.kinds = append(k.kinds, "manta")
	}
	return k
}

func (k *keyring) of(user string) []*rsa.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.users[user]
}

// reload reads every key file. One unreadable entry, such as a directory named
// x.keys, spoils the whole load without a word: the old keys stay.
func (k *keyring) reload() {
	users := map[string][]*rsa.PublicKey{}
	for user, lines := range k.config {
		users[user] = append(users[user], parseKeys([]byte(strings.Join(lines, "\n")))...)
	}
	for _, kind := range k.kinds {
		entries, err := os.ReadDir(k.at.keys(kind))
		if err != nil {
			return
		}
		for _, e := range entries {
			user, ok := strings.CutSuffix(e.Name(), ".keys")
			if !ok || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			b, err := os.ReadFile(filepath.Join(k.at.keys(kind), e.Name()))
			if err != nil {
				return
			}
			users[user] = append(users[user], parseKeys(b)...)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users = users
}

// parseKeys reads OpenSSH public keys, one a line. Only RSA keys can be used;
// other types, options before the type and junk are skipped.
func parseKeys(b []byte) []*rsa.PublicKey {
	var keys []*rsa.PublicKey
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "ssh-rsa" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(f[1])
		if err != nil {
			continue
		}
		pub, err := ssh.ParsePublicKey(raw)
		if err != nil {
			continue
		}
		if ck, ok := pub.(ssh.CryptoPublicKey); ok {
			if key, ok := ck.CryptoPublicKey().(*rsa.PublicKey); ok {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

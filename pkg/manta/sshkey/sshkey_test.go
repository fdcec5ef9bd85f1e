package sshkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// verifies checks a signature with the standard library, by the key's type.
func verifies(t *testing.T, k *Key, data []byte) {
	t.Helper()
	sig, alg, err := k.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	if alg != k.Algorithm() {
		t.Errorf("signed with %s, announced %s", alg, k.Algorithm())
	}
	s256, s512 := sha256.Sum256(data), sha512.Sum512(data)
	ok := false
	switch p := k.Public().(ssh.CryptoPublicKey).CryptoPublicKey().(type) {
	case *rsa.PublicKey:
		ok = alg == "rsa-sha256" && rsa.VerifyPKCS1v15(p, crypto.SHA256, s256[:], sig) == nil
	case *ecdsa.PublicKey:
		d := map[string][]byte{"ecdsa-sha256": s256[:], "ecdsa-sha512": s512[:]}[alg]
		ok = d != nil && ecdsa.VerifyASN1(p, d, sig)
	case ed25519.PublicKey:
		ok = alg == "ed25519-sha512" && ed25519.Verify(p, data, sig)
	}
	if !ok {
		t.Errorf("%s signature does not verify", alg)
	}
}

// makeKeys makes one key of each kind, once.
var makeKeys = sync.OnceValues(func() (map[string]crypto.Signer, error) {
	keys := map[string]crypto.Signer{}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	keys["rsa"] = r
	for name, c := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		k, kerr := ecdsa.GenerateKey(c, rand.Reader)
		keys[name], err = k, errors.Join(err, kerr)
	}
	_, ed, kerr := ed25519.GenerateKey(rand.Reader)
	keys["ed25519"] = ed
	return keys, errors.Join(err, kerr)
})

func privateKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	return maps.Clone(keys)
}

// encodings returns the PEM forms of a key.
func encodings(t *testing.T, k crypto.Signer) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	out["pkcs8"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, pass := range map[string]string{"openssh": "", "openssh, encrypted": "secret"} {
		var block *pem.Block
		var err error
		if pass == "" {
			block, err = ssh.MarshalPrivateKey(k, "c")
		} else {
			block, err = ssh.MarshalPrivateKeyWithPassphrase(k, "c", []byte(pass))
		}
		if err != nil {
			t.Fatal(err)
		}
		out[name] = pem.EncodeToMemory(block)
	}
	var block *pem.Block
	switch p := k.(type) {
	case *rsa.PrivateKey:
		block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(p)}
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(p)
		if err != nil {
			t.Fatal(err)
		}
		block = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	default:
		return out
	}
	out["traditional"] = pem.EncodeToMemory(block)
	//lint:ignore SA1019 the form exists in the field and is read
	enc, err := x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte("secret"), x509.PEMCipherAES128)
	if err != nil {
		t.Fatal(err)
	}
	out["traditional, encrypted"] = pem.EncodeToMemory(enc)
	return out
}

func TestEveryKindOfKeyInEveryFormSigns(t *testing.T) {
	for kind, priv := range privateKeys(t) {
		for form, data := range encodings(t, priv) {
			t.Run(kind+", "+form, func(t *testing.T) {
				asked := 0
				k, err := Parse(data, "k", func(prompt string) ([]byte, error) {
					asked++
					if !strings.Contains(prompt, "key k") {
						t.Errorf("prompt %q", prompt)
					}
					if asked == 1 {
						return []byte("wrong"), nil
					}
					return []byte("secret"), nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{true: 2}[strings.Contains(form, "encrypted")]; asked != want {
					t.Errorf("asked %d times", asked)
				}
				pub, err := ssh.NewPublicKey(priv.Public())
				if err != nil {
					t.Fatal(err)
				}
				if k.MD5() != ssh.FingerprintLegacyMD5(pub) || k.SHA256() != ssh.FingerprintSHA256(pub) {
					t.Error("fingerprints differ")
				}
				verifies(t, k, []byte("date: Sun, 22 Nov 2026 18:35:21 GMT"))
			})
		}
	}
}

func TestAnEncryptedKeyWithoutItsPassphraseIsAClearError(t *testing.T) {
	data := encodings(t, privateKeys(t)["ed25519"])["openssh, encrypted"]
	asked := 0
	refusal := errors.New("no terminal")
	for name, ask := range map[string]Passphrase{
		"nobody to ask": nil,
		"always wrong":  func(string) ([]byte, error) { asked++; return []byte("wrong"), nil },
		"refused":       func(string) ([]byte, error) { return nil, refusal },
	} {
		if _, err := Parse(data, "k", ask); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != passphraseTries {
		t.Errorf("asked %d times", asked)
	}
}

func TestWhatIsNoKeyIsAnError(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":      nil,
		"text":         []byte("hello"),
		"empty block":  pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY"}),
		"public":       []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"),
		"P-224":        pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"pkcs8 broken": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 3, 2, 1}}),
	} {
		if _, err := Parse(data, "k", func(string) ([]byte, error) { return []byte("x"), nil }); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFingerprintsAreComparedInEveryForm(t *testing.T) {
	keys := privateKeys(t)
	k, err := New(keys["rsa"], "k")
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(keys["p256"], "other")
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.ReplaceAll(k.MD5(), ":", "")
	for _, id := range []string{k.MD5(), "MD5:" + k.MD5(), "md5:" + bare, bare, strings.ToUpper(bare), k.SHA256(), k.SHA256() + "=", " " + k.MD5() + "\n"} {
		if err := k.Check(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		err := other.Check(id)
		if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), other.MD5()) || !strings.Contains(err.Error(), "other") {
			t.Errorf("%q on another key: %v", id, err)
		}
	}
	for _, id := range []string{"", "zz", "SHA256:abc", "MD5:aa:bb", bare + "00"} {
		if err := k.Check(id); err == nil || errors.Is(err, ErrMismatch) {
			t.Errorf("%q is no fingerprint: %v", id, err)
		}
	}
}

func write(t *testing.T, path string, data []byte, perm os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, data, perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileOthersCanReadIsUsedWithAWarning(t *testing.T) {
	dir := t.TempDir()
	data := encodings(t, privateKeys(t)["ed25519"])["openssh"]
	for perm, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true} {
		k, err := Load(write(t, filepath.Join(dir, "k"+perm.String()), data, perm), nil)
		if err != nil || (k.Warning != "") != warned {
			t.Errorf("%v: %v, warning %q", perm, err, k.Warning)
		}
	}
	if _, err := Load(dir, nil); !errors.Is(err, ErrBadKey) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load(write(t, filepath.Join(dir, "big"), make([]byte, maxKeyFile+1), 0o600), nil); !errors.Is(err, ErrBadKey) {
		t.Errorf("a huge file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Keys as the usual commands write them.
func TestKeysOfOpensslAndSSHKeygenAreRead(t *testing.T) {
	cmds := map[string][]string{
		"openssl rsa":              {"openssl", "genrsa", "-traditional", "-out", "K", "2048"},
		"openssl rsa aes":          {"openssl", "genrsa", "-traditional", "-aes256", "-passout", "pass:secret", "-out", "K", "2048"},
		"openssl pkcs8":            {"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "K"},
		"openssl pkcs8 aes256":     {"openssl", "genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:secret", "-out", "K"},
		"openssl pkcs8 aes128":     {"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes-128-cbc", "-pass", "pass:secret", "-out", "K"},
		"openssl pkcs8 3des":       {"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-des3", "-pass", "pass:secret", "-out", "K"},
		"openssl ec":               {"openssl", "ecparam", "-name", "secp521r1", "-genkey", "-noout", "-out", "K"},
		"ssh-keygen rsa":           {"ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "K"},
		"ssh-keygen rsa pem":       {"ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", "K"},
		"ssh-keygen rsa pem pass":  {"ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret", "-f", "K"},
		"ssh-keygen pkcs8 pass":    {"ssh-keygen", "-q", "-t", "ecdsa", "-m", "PKCS8", "-N", "secret", "-f", "K"},
		"ssh-keygen ecdsa 384":     {"ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", "K"},
		"ssh-keygen ed25519 pass":  {"ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", "K"},
		"ssh-keygen ed25519 plain": {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "K"},
	}
	for name, argv := range cmds {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				t.Skipf("%s is not here", argv[0])
			}
			path := filepath.Join(t.TempDir(), "k")
			argv := slices.Clone(argv)
			argv[slices.Index(argv, "K")] = path
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Skipf("%q does not do this: %v: %s", argv, err, out)
			}
			tries := 0
			k, err := Load(path, func(string) ([]byte, error) {
				if tries++; tries == 1 {
					return []byte("wrong"), nil
				}
				return []byte("secret"), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			verifies(t, k, []byte("text"))
			if argv[0] != "ssh-keygen" {
				return
			}
			for flag, want := range map[string]string{"md5": "MD5:" + k.MD5(), "sha256": k.SHA256()} {
				out, err := exec.Command("ssh-keygen", "-l", "-E", flag, "-f", path+".pub").Output()
				if err != nil || !strings.Contains(string(out), " "+want+" ") {
					t.Errorf("ssh-keygen says %s, we say %s (%v)", out, want, err)
				}
			}
			pub, err := os.ReadFile(path + ".pub")
			if err != nil || strings.TrimSpace(string(pub)) != k.AuthorizedKey() {
				t.Errorf("public half %q, want %q (%v)", k.AuthorizedKey(), pub, err)
			}
		})
	}
}

func FuzzKey(f *testing.F) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(ed, "c")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(block))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 3, 2, 1, 1}}))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		k, err := Parse(data, "k", func(string) ([]byte, error) { return []byte("x"), nil })
		if err == nil {
			if _, _, err := k.Sign([]byte("x")); err != nil && !strings.Contains(err.Error(), "rsa") {
				t.Error(err)
			}
		}
	})
}

func FuzzFingerprint(f *testing.F) {
	f.Add("MD5:aa:bb")
	f.Add("SHA256:" + strings.Repeat("A", 43))
	f.Fuzz(func(t *testing.T, s string) {
		if fp, err := ParseFingerprint(s); err == nil && len(fp.md5)+len(fp.sha256) != 16 && len(fp.sha256) != 32 {
			t.Errorf("%q: %+v", s, fp)
		}
	})
}

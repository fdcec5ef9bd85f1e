package sshkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// maxIterations bounds the work a key file can ask for; openssl uses 2048 by
// default, cautious people some millions.
const maxIterations = 20_000_000

// The structures of RFC 8018 (PBES2, PBKDF2) and RFC 5958.
type (
	encryptedKey struct {
		Algo pkix.AlgorithmIdentifier
		Data []byte
	}
	pbes2Params struct {
		KDF    pkix.AlgorithmIdentifier
		Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// blockCipher is a block cipher in CBC mode known by its object identifier.
type blockCipher struct {
	keyLen int
	make   func([]byte) (cipher.Block, error)
}

func cipherByOID(oid asn1.ObjectIdentifier) (blockCipher, bool) {
	c, ok := map[string]blockCipher{
		"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
		"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
		"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
		"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
	}[oid.String()]
	return c, ok
}

func hashByOID(oid asn1.ObjectIdentifier) (func() hash.Hash, bool) {
	if len(oid) == 0 { // absent: the default of RFC 8018 A.2
		return sha1.New, true
	}
	h, ok := map[string]func() hash.Hash{
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.11": sha512.New,
	}[oid.String()]
	return h, ok
}

// decryptPKCS8 opens an "ENCRYPTED PRIVATE KEY" (PBES2 with PBKDF2 and AES-CBC or
// 3DES), which neither the standard library nor x/crypto/ssh reads.
func decryptPKCS8(der, pass []byte) ([]byte, error) {
	var k encryptedKey
	var p pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	oidPBES2 := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	if err := unmarshal(der, &k); err != nil {
		return nil, err
	}
	if !k.Algo.Algorithm.Equal(oidPBES2) {
		return nil, errors.New("pkcs8: encryption is not PBES2")
	}
	if err := unmarshal(k.Algo.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	if !p.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, errors.New("pkcs8: key derivation is not PBKDF2")
	}
	if err := unmarshal(p.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	if err := unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	c, known := cipherByOID(p.Cipher.Algorithm)
	h, prf := hashByOID(kdf.PRF.Algorithm)
	if !known || !prf || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errors.New("pkcs8: cipher, hash or iteration count not supported")
	}
	key, err := pbkdf2.Key(h, string(pass), kdf.Salt, kdf.Iterations, c.keyLen)
	if err != nil {
		return nil, err
	}
	block, err := c.make(key)
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, iv, k.Data)
}

// decryptCBC decrypts and takes the padding off; wrong padding is how a wrong
// passphrase shows.
func decryptCBC(b cipher.Block, iv, data []byte) ([]byte, error) {
	n := b.BlockSize()
	if len(iv) != n || len(data) == 0 || len(data)%n != 0 {
		return nil, errors.New("pkcs8: lengths are wrong")
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(out, data)
	pad := int(out[len(out)-1])
	if pad < 1 || pad > n {
		return nil, x509.IncorrectPasswordError
	}
	for _, c := range out[len(out)-pad:] {
		if int(c) != pad {
			return nil, x509.IncorrectPasswordError
		}
	}
	return out[:len(out)-pad], nil
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) != 0 {
		err = errors.New("pkcs8: trailing data")
	}
	return err
}

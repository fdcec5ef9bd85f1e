package lab

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"time"

	"golang.org/x/crypto/ssh"
)

// uploader puts small objects to Manta with a key from a file, as the stock
// scripts do with mput. It is the lab's own, so that a misreading of the protocol
// is not shared with the clients under test.
type uploader struct {
	url    string
	keyID  string
	key    crypto.Signer
	client *http.Client
}

func newUploader(url, account, keyFile string) (*uploader, error) {
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	parsed, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %T cannot sign", keyFile, parsed)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	// loopback, with the lab's self-signed certificate
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	return &uploader{url: url, keyID: "/" + account + "/keys/" + describeKey(pub, "").md5, key: key,
		client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
}

func (u *uploader) sign(text string) (algorithm, signature string, err error) {
	sum := sha256.Sum256([]byte(text))
	switch u.key.(type) {
	case *ecdsa.PrivateKey:
		algorithm = "ecdsa-sha256"
	case *rsa.PrivateKey:
		algorithm = "rsa-sha256"
	default:
		return "", "", fmt.Errorf("%T: not a key the upload signs with", u.key)
	}
	raw, err := u.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	return algorithm, base64.StdEncoding.EncodeToString(raw), err
}

// put stores an object and makes its directories when they are missing.
func (u *uploader) put(ctx context.Context, object string, body []byte) error {
	err := u.send(ctx, object, "text/plain", body)
	if se, ok := err.(*statusError); !ok || se.status != http.StatusNotFound {
		return err
	}
	if err := u.mkdir(ctx, path.Dir(object)); err != nil {
		return err
	}
	return u.send(ctx, object, "text/plain", body)
}

func (u *uploader) mkdir(ctx context.Context, dir string) error {
	const kind = "application/json; type=directory"
	err := u.send(ctx, dir, kind, nil)
	if se, ok := err.(*statusError); !ok || se.status != http.StatusNotFound {
		return err
	}
	if parent := path.Dir(dir); parent != "/" {
		if err := u.mkdir(ctx, parent); err != nil {
			return err
		}
	}
	return u.send(ctx, dir, kind, nil)
}

type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func (u *uploader) send(ctx context.Context, object, ctype string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.url+object, bytes.NewReader(body))
	if err != nil {
		return err
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	algorithm, signature, err := u.sign("date: " + date)
	if err != nil {
		return err
	}
	req.Header.Set("Date", date)
	req.Header.Set("Content-Type", ctype)
	req.Header.Set("Authorization", fmt.Sprintf("Signature keyId=%q,algorithm=%q,headers=\"date\",signature=%q", u.keyID, algorithm, signature))
	res, err := u.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 500))
	if err != nil {
		return err
	}
	return &statusError{res.StatusCode, fmt.Sprintf("PUT %s: %s: %s", object, res.Status, b)}
}

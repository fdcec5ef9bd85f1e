// Package mantastor is the lab's own small client of Manta: what the stock
// server, its scripts and the seed need of it and no more. It shares no code with
// the clients under test, so that a misreading of the protocol is not shared
// either.
package mantastor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Config says whom to talk to.
type Config struct {
	URL      string // https://host:port
	Account  string
	Key      crypto.Signer // RSA or ECDSA
	Insecure bool          // any certificate will do
	// Patience is how long a connection that is refused is tried again.
	Patience time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	cfg   Config
	keyID string
	http  *http.Client

	mu                           sync.Mutex // guards what was signed last: the Date, which stays for a second
	signed, algorithm, signature string
}

// LoadKey reads a private key without a passphrase, PEM or OpenSSH.
func LoadKey(file string) (crypto.Signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parsed, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %T cannot sign", file, parsed)
	}
	return key, nil
}

// New makes a client; nothing is sent yet.
func New(cfg Config) (*Client, error) {
	pub, err := ssh.NewPublicKey(cfg.Key.Public())
	if err != nil {
		return nil, err
	}
	sum := md5.Sum(pub.Marshal())
	pairs := make([]string, len(sum))
	for i := range sum {
		pairs[i] = hex.EncodeToString(sum[i : i+1])
	}
	c := &Client{cfg: cfg, keyID: "/" + cfg.Account + "/keys/" + strings.Join(pairs, ":")}
	c.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: cfg.Insecure}, // the operator's word: manta.insecure
		DialContext:           c.dial,
		DisableCompression:    true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       20 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
	}}
	return c, nil
}

// Close gives idle connections up.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// dial tries a refused connection again for as long as the patience lasts.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 10 * time.Second}
	end := time.Now().Add(c.cfg.Patience)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 4*time.Second) {
		conn, err := d.DialContext(ctx, network, addr)
		left := time.Until(end)
		if err == nil || left <= 0 {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(pause, left)):
		}
	}
}

// Error is an answer that is not a success.
type Error struct {
	Method, Path  string
	Status        int
	Code, Message string // of the body, if it has them
}

func (e *Error) Error() string {
	text := e.Message
	if e.Code != "" {
		text = e.Code + ": " + text
	}
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, text)
}

// NotFound says whether err is Manta's 404.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

func (c *Client) sign(text string) (algorithm, signature string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signed == text {
		return c.algorithm, c.signature, nil
	}
	sum := sha256.Sum256([]byte(text))
	switch c.cfg.Key.(type) {
	case *ecdsa.PrivateKey:
		algorithm = "ecdsa-sha256"
	case *rsa.PrivateKey:
		algorithm = "rsa-sha256"
	default:
		return "", "", fmt.Errorf("%T: not a key this client signs with", c.cfg.Key)
	}
	raw, err := c.cfg.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", "", err
	}
	c.signed, c.algorithm, c.signature = text, algorithm, base64.StdEncoding.EncodeToString(raw)
	return c.algorithm, c.signature, nil
}

func escape(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// send makes one request. A status that is no success is an [*Error] and the body
// is closed; otherwise the caller closes it.
func (c *Client) send(ctx context.Context, method, p, query string, body io.Reader, set func(*http.Request)) (*http.Response, error) {
	target := strings.TrimSuffix(c.cfg.URL, "/") + escape(p)
	if query != "" {
		target += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	algorithm, signature, err := c.sign("date: " + date)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Date", date)
	req.Header.Set("Authorization", fmt.Sprintf("Signature keyId=%q,algorithm=%q,headers=\"date\",signature=%q", c.keyID, algorithm, signature))
	if set != nil {
		set(req)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	e := &Error{Method: method, Path: p, Status: res.StatusCode}
	b, rerr := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	var said struct{ Code, Message string }
	if rerr == nil && json.Unmarshal(b, &said) == nil {
		e.Code, e.Message = said.Code, said.Message
	}
	return nil, e
}

// done reads a short answer to its end, so that its connection is used again.
func done(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return errors.Join(err, res.Body.Close())
}

// Object says what is put.
type Object struct {
	Type string // Content-Type, default application/octet-stream
	Size int64  // in bytes; negative: unknown, sent in chunks
	MD5  string // base64; Manta refuses a body that differs
}

// Put stores an object; its directory must be there.
func (c *Client) Put(ctx context.Context, p string, body io.Reader, o Object) error {
	if o.Size == 0 {
		body = http.NoBody
	}
	return done(c.send(ctx, http.MethodPut, p, "", body, func(r *http.Request) {
		r.ContentLength = o.Size
		r.Header.Set("Content-Type", "application/octet-stream")
		if o.Type != "" {
			r.Header.Set("Content-Type", o.Type)
		}
		if o.MD5 != "" {
			r.Header.Set("Content-MD5", o.MD5)
		}
	}))
}

// MkdirAll makes a directory and what it lies in.
func (c *Client) MkdirAll(ctx context.Context, dir string) error {
	err := c.mkdir(ctx, dir)
	if !NotFound(err) {
		return err
	}
	if parent := path.Dir(dir); parent != "/" {
		if err := c.MkdirAll(ctx, parent); err != nil {
			return err
		}
	}
	return c.mkdir(ctx, dir)
}

func (c *Client) mkdir(ctx context.Context, dir string) error {
	return done(c.send(ctx, http.MethodPut, dir, "", nil, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json; type=directory")
	}))
}

// Get opens an object; the caller closes it.
func (c *Client) Get(ctx context.Context, p string) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodGet, p, "", nil, nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// Info is an object without its bytes.
type Info struct {
	Size int64
	MD5  string // base64
}

// Head asks for an object's size and MD5.
func (c *Client) Head(ctx context.Context, p string) (Info, error) {
	res, err := c.send(ctx, http.MethodHead, p, "", nil, nil)
	if err != nil {
		return Info{}, err
	}
	return Info{res.ContentLength, res.Header.Get("Content-MD5")}, done(res, nil)
}

// Delete removes an object or an empty directory.
func (c *Client) Delete(ctx context.Context, p string) error {
	return done(c.send(ctx, http.MethodDelete, p, "", nil, nil))
}

// Entry is one line of a listing.
type Entry struct {
	Name string `json:"name"`
	Type string `json:"type"` // object or directory
	ETag string `json:"etag"`
}

const page = 1000

// List reads a whole directory.
func (c *Client) List(ctx context.Context, dir string) ([]Entry, error) {
	var all []Entry
	for marker := ""; ; marker = all[len(all)-1].Name {
		q := url.Values{"limit": {fmt.Sprint(page)}}
		if marker != "" {
			q.Set("marker", marker)
		}
		got, err := c.listPage(ctx, dir, q.Encode())
		if err != nil {
			return nil, err
		}
		n := len(got)
		if n > 0 && marker != "" && got[0].Name == marker { // the marker comes back
			got = got[1:]
		}
		all = append(all, got...)
		if n < page || len(got) == 0 {
			return all, nil
		}
	}
}

func (c *Client) listPage(ctx context.Context, dir, query string) ([]Entry, error) {
	res, err := c.send(ctx, http.MethodGet, dir, query, nil, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if ct := res.Header.Get("Content-Type"); !strings.Contains(ct, "type=directory") {
		return nil, nil // an object: a listing of nothing
	}
	var list []Entry
	for d := json.NewDecoder(res.Body); ; {
		var e Entry
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		list = append(list, e)
	}
}

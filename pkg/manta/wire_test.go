package manta

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritonops/tritonops/pkg/manta/sshkey"
)

const wireDir = "../../testdata/wire/manta"

// exchange is one recorded request and the statuses it got.
type exchange struct {
	line    string
	headers map[string]string // names in lower case
	status  []string
}

func recording(t *testing.T, name string) []exchange {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(wireDir, name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var l []exchange
	for block := range strings.SplitSeq(string(data), "\n\n") {
		e := exchange{headers: map[string]string{}}
		for line := range strings.Lines(block) {
			line = strings.TrimRight(line, "\n")
			switch head, isHead := strings.CutPrefix(line, "> "); {
			case strings.HasPrefix(line, "< "):
				e.status = append(e.status, line[2:])
			case isHead && e.line == "":
				e.line = head
			case isHead:
				k, v, _ := strings.Cut(head, ": ")
				e.headers[strings.ToLower(k)] = v
			}
		}
		l = append(l, e)
	}
	return l
}

// player answers like the recorded server and keeps what it was sent.
type player struct {
	l      net.Listener
	script []exchange

	mu  sync.Mutex
	got []exchange
}

func play(t *testing.T, script []exchange) *player {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &player{l: l, script: script}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *player) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		e := exchange{headers: map[string]string{}}
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\r\n")
			if line == "" {
				break
			}
			if e.line == "" {
				e.line = line
				continue
			}
			k, v, _ := strings.Cut(line, ": ")
			e.headers[strings.ToLower(k)] = v
		}
		p.mu.Lock()
		i := len(p.got)
		p.got = append(p.got, e)
		p.mu.Unlock()
		if i >= len(p.script) || !p.answer(c, br, e, p.script[i].status) {
			return
		}
	}
}

// answer gives a recorded status with as much of an answer as the operation needs.
func (p *player) answer(c io.Writer, br io.Reader, e exchange, statuses []string) bool {
	final := statuses[len(statuses)-1]
	refused := strings.Contains(final, " 404 ")
	var body []byte
	if n, _ := strconv.Atoi(e.headers["content-length"]); !refused || e.headers["expect"] == "" {
		if e.headers["expect"] != "" {
			fmt.Fprint(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body = make([]byte, n)
		if _, err := io.ReadFull(br, body); err != nil {
			return false
		}
	}
	sum := md5.Sum(body)
	extra, content := "Computed-Md5: "+formatMD5(sum[:])+"\r\n", ""
	method, target, _ := strings.Cut(e.line, " ")
	switch {
	case refused && method != "HEAD":
		content = `{"code":"DirectoryDoesNotExist","message":"no"}`
	case method == "GET" && strings.Contains(target, "marker="):
		extra = "Content-Type: application/x-json-stream; type=directory\r\nResult-Set-Size: 1025\r\n"
		content = objectLine("f1023") + objectLine("f1024")
	case method == "GET" && strings.Contains(target, "limit="):
		extra = "Content-Type: application/x-json-stream; type=directory\r\nResult-Set-Size: 1025\r\n"
		for i := range 1024 {
			content += objectLine(fmt.Sprintf("f%04d", i))
		}
	case method == "GET":
		content = "hello 1\n"
	}
	if method != "HEAD" && !strings.Contains(final, " 204 ") {
		extra += fmt.Sprintf("Content-Length: %d\r\n", len(content))
	}
	_, err := fmt.Fprintf(c, "%s\r\n%s\r\n%s", final, extra, content)
	return err == nil
}

// The differences to the npm clients that are meant, each with its reason.
var (
	differs = map[string]string{
		"user-agent":    "names the program",
		"x-request-id":  "new for each request; of the same form",
		"date":          "the time",
		"authorization": "compared by its parts, and by its bytes in another test",
		"host":          "the address",
	}
	npmOnly = map[string]string{
		"connection":         "keep-alive is what HTTP/1.1 means anyway",
		"x-durability-level": "durability-level is its documented name; sent only if asked for",
	}
	oursOnly = map[string]string{
		"durability-level": "see x-durability-level",
	}
	// order lists our requests where they come in another order than npm's, or are
	// more: npm makes directories from the top, and so replaces an object that is in
	// the way of one. Ours look first, where no answer has said that nothing is
	// there, and begin at the bottom.
	order = map[string][]turn{
		"mkdir": {{"HEAD /bob/stor/new", 404}, {"PUT /bob/stor/new", 204}},
		"mkdir-p": {{"HEAD /bob/stor/x/y/z", 404}, {"PUT /bob/stor/x/y/z", 404}, {"PUT /bob/stor/x/y", 404},
			{"PUT /bob/stor/x", 204}, {"PUT /bob/stor/x/y", 204}, {"PUT /bob/stor/x/y/z", 204}},
		"put-parents": {{"PUT /bob/stor/x/y/small.txt", 404}, {"PUT /bob/stor/x/y", 404},
			{"PUT /bob/stor/x", 204}, {"PUT /bob/stor/x/y", 204}, {"PUT /bob/stor/x/y/small.txt", 204}},
	}
)

// turn is one of our requests and the status it gets.
type turn struct {
	request string
	status  int
}

// inOrder returns the recorded requests in the order of turns, with their
// statuses. A request npm does not make has its line and status only.
func inOrder(turns []turn, npm []exchange) (l []exchange) {
	for _, tn := range turns {
		e := exchange{line: tn.request + " HTTP/1.1"}
		for _, n := range npm {
			if n.line == e.line {
				e.headers = n.headers
			}
		}
		e.status = []string{fmt.Sprintf("HTTP/1.1 %d %s", tn.status, http.StatusText(tn.status))}
		l = append(l, e)
	}
	return l
}

var (
	signatureForm = regexp.MustCompile(`signature="[^"]*"`)
	uuidForm      = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	dateForm      = regexp.MustCompile(`^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$`)
)

// compare reports every difference that is not meant. A small body is sent without
// asking first, so Expect may be missing below 64 KiB.
func compare(t *testing.T, npm, ours exchange) {
	t.Helper()
	if npm.line != ours.line {
		t.Errorf("request %q, npm sends %q", ours.line, npm.line)
	}
	if npm.headers == nil {
		return // not a request of npm's; order says why
	}
	small := len(npm.headers["content-length"]) < 5
	for k, want := range npm.headers {
		got, sent := ours.headers[k]
		switch {
		case npmOnly[k] != "" && !sent || k == "expect" && small && !sent:
		case k == "content-length" && want == "0" && strings.HasPrefix(npm.line, "DELETE ") && !sent: // no content either way
		case !sent:
			t.Errorf("%s: header %s is missing", ours.line, k)
		case differs[k] == "" && got != want:
			t.Errorf("%s: header %s: %q, npm sends %q", ours.line, k, got, want)
		}
	}
	for k := range ours.headers {
		if _, ok := npm.headers[k]; !ok && oursOnly[k] == "" {
			t.Errorf("%s: header %s is not sent by npm", ours.line, k)
		}
	}
	if d := cmp.Diff(signatureForm.ReplaceAllString(npm.headers["authorization"], ""), signatureForm.ReplaceAllString(ours.headers["authorization"], "")); d != "" {
		t.Errorf("%s: authorization: %s", ours.line, d)
	}
	for k, form := range map[string]*regexp.Regexp{"x-request-id": uuidForm, "date": dateForm} {
		if !form.MatchString(npm.headers[k]) || !form.MatchString(ours.headers[k]) {
			t.Errorf("%s: %s: %q, npm %q", ours.line, k, ours.headers[k], npm.headers[k])
		}
	}
	if want := npm.headers["x-durability-level"]; want != "2" && want != ours.headers["durability-level"] {
		t.Errorf("%s: durability level %q, npm %q", ours.line, ours.headers["durability-level"], want)
	}
}

// wireCase is an operation and the methods of its recording that are the
// operation: the npm tools look before they act.
type wireCase struct {
	keep string
	op   func(context.Context, *Client) error
}

func wireCases() map[string]wireCase {
	text := PutOptions{ContentType: "text/plain"}
	with := func(change func(*PutOptions)) PutOptions { o := text; change(&o); return o }
	put := func(path string, data []byte, o PutOptions) func(context.Context, *Client) error {
		return func(ctx context.Context, c *Client) error { _, err := c.Put(ctx, path, Bytes(data), o); return err }
	}
	get := func(ctx context.Context, c *Client) error {
		o, err := c.Get(ctx, "/bob/stor/d/o1", GetOptions{})
		if err != nil {
			return err
		}
		defer o.Close()
		_, err = io.Copy(io.Discard, o)
		return err
	}
	return map[string]wireCase{
		"put-small": {"PUT", put("/bob/stor/d/a b+é.txt", []byte("hello\n"), text)},
		"put-large": {"PUT", put("/bob/stor/d/big.bin", make([]byte, 300000), PutOptions{})},
		"put-md5-copies-meta": {"PUT", put("/bob/stor/d/small.txt", []byte("hello\n"), with(func(o *PutOptions) {
			o.SendMD5, o.Copies, o.Metadata = true, 3, map[string]string{"m-foo": "bar"}
		}))},
		"put-parents":   {"PUT", put("/bob/stor/x/y/small.txt", []byte("hello\n"), with(func(o *PutOptions) { o.Parents = true }))},
		"get":           {"GET", get},
		"subuser-roles": {"GET", get},
		"head":          {"HEAD", func(ctx context.Context, c *Client) error { _, err := c.Head(ctx, "/bob/stor/d/o1"); return err }},
		"mkdir":         {"PUT", func(ctx context.Context, c *Client) error { return c.Mkdir(ctx, "/bob/stor/new") }},
		"mkdir-p":       {"PUT", func(ctx context.Context, c *Client) error { return c.MkdirAll(ctx, "/bob/stor/x/y/z") }},
		"delete":        {"DELETE", func(ctx context.Context, c *Client) error { return c.Delete(ctx, "/bob/stor/d/o1", Condition{}) }},
		"list-two-pages": {"GET", func(ctx context.Context, c *Client) error {
			for _, err := range c.List(ctx, "/bob/stor/big", ListOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

func TestRequestsAreThoseOfTheNpmClient(t *testing.T) {
	key, err := sshkey.Load(filepath.Join(wireDir, "test_key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range wireCases() {
		t.Run(name, func(t *testing.T) {
			var script []exchange
			for _, e := range recording(t, name) {
				if strings.HasPrefix(e.line, tc.keep+" ") {
					script = append(script, e)
				}
			}
			if turns := order[name]; turns != nil {
				script = inOrder(turns, script)
			}
			p := play(t, script)
			cfg := Config{URL: "http://" + p.l.Addr().String(), Account: "bob", Retry: Retry{Attempts: 1}}
			if name == "subuser-roles" {
				cfg.SubUser, cfg.Roles = "alice", []string{"ops", "read"}
			}
			if cfg.Signer, err = NewSigner(key, cfg.Account, cfg.SubUser); err != nil {
				t.Fatal(err)
			}
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := tc.op(ctx, c); err != nil {
				t.Error(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(script) == 0 || len(p.got) != len(script) {
				t.Fatalf("%d requests, npm %d", len(p.got), len(script))
			}
			for i := range script {
				compare(t, script[i], p.got[i])
			}
		})
	}
}

// RSA signatures are deterministic: for a recorded date ours must be the recorded
// header, byte for byte.
func TestSignaturesAreThoseOfTheNpmClient(t *testing.T) {
	key, err := sshkey.Load(filepath.Join(wireDir, "test_key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(wireDir, "*.txt"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		user := ""
		if name == "subuser-roles" {
			user = "alice"
		}
		s, err := NewSigner(key, "bob", user)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range recording(t, name) {
			got, err := s.Sign(e.headers["date"], true)
			if err != nil || !bytes.Equal([]byte(got), []byte(e.headers["authorization"])) {
				t.Errorf("%s: %s: %v: %s", name, e.line, err, cmp.Diff(e.headers["authorization"], got))
			}
		}
	}
}

package mantad

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

const mkdirType = "Content-Type: application/json; type=directory"

// row is one request and its answer. /admin/stor/o has etag, d and full are
// directories, other is an id no object has.
type row struct {
	name, method, path string
	lines              []string
	body               string
	status             int
	code               string
}

func conditionRows(etag, other string) []row {
	return []row{
		{"create only if absent", "PUT", "/admin/stor/n1", []string{`If-Match: ""`, "Content-Length: 1"}, "x", 204, ""},
		{"create only if absent, present", "PUT", "/admin/stor/o", []string{`If-Match: ""`, "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"if-none-match star, absent", "PUT", "/admin/stor/n2", []string{"If-None-Match: *", "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"if-none-match star, present", "PUT", "/admin/stor/o", []string{"If-None-Match: *", "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"if-match star, absent", "PUT", "/admin/stor/n3", []string{"If-Match: *", "Content-Length: 1"}, "x", 204, ""},
		{"quoted etag never matches", "PUT", "/admin/stor/o", []string{`If-Match: "` + etag + `"`, "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"etag of another version", "PUT", "/admin/stor/o", []string{"If-Match: " + other, "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"etag on what is absent", "PUT", "/admin/stor/n4", []string{"If-Match: " + etag, "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"empty if-match is no condition", "PUT", "/admin/stor/empty", []string{"If-Match:", "Content-Length: 0"}, "", 204, ""},
		{"empty if-none-match is no condition", "PUT", "/admin/stor/empty", []string{"If-None-Match:", "Content-Length: 0"}, "", 204, ""},
		{"one of several etags", "HEAD", "/admin/stor/o", []string{"If-Match: " + other + " , W/" + etag}, "", 200, ""},
	}
}

func uploadRows() []row {
	return []row{
		{"missing parent comes before the condition", "PUT", "/admin/stor/no/o", []string{"If-None-Match: *", "Content-Length: 1"}, "x", 404, "DirectoryDoesNotExist"},
		{"condition comes before the parent's type", "PUT", "/admin/stor/o/x", []string{"If-None-Match: *", "Content-Length: 1"}, "x", 412, "PreconditionFailed"},
		{"parent is an object", "PUT", "/admin/stor/o/x", []string{"Content-Length: 1"}, "x", 400, "ParentNotDirectory"},
		{"directory below an object", "PUT", "/admin/stor/o/x", []string{mkdirType}, "", 400, "ParentNotDirectory"},
		{"directory without parent", "PUT", "/admin/stor/no/d", []string{mkdirType}, "", 404, "DirectoryDoesNotExist"},
		{"directory again", "PUT", "/admin/stor/d", []string{mkdirType}, "", 204, ""},
		{"storage root as directory", "PUT", "/admin/stor", []string{mkdirType}, "", 204, ""},
		{"storage root as object", "PUT", "/admin/stor", []string{"Content-Type: text/plain", "Content-Length: 1"}, "x", 400, "OperationNotAllowedOnRootDirectory"},
		{"account root", "PUT", "/admin", []string{mkdirType}, "", 400, "OperationNotAllowedOnRootDirectory"},
		{"object over a directory with a length", "PUT", "/admin/stor/d", []string{"Content-Length: 1"}, "x", 400, "InvalidUpdate"},
		{"object over a directory, chunked", "PUT", "/admin/stor/d", []string{"Transfer-Encoding: chunked"}, "1\r\nx\r\n0\r\n\r\n", 400, "OperationNotAllowedOnDirectory"},
		{"no length at all is an empty object", "PUT", "/admin/stor/nolength", nil, "", 204, ""},
		{"chunked", "PUT", "/admin/stor/chunked", []string{"Transfer-Encoding: chunked"}, "5\r\nhello\r\n0\r\n\r\n", 204, ""},
		{"chunked beyond its promise", "PUT", "/admin/stor/chunked2", []string{"Transfer-Encoding: chunked", "Max-Content-Length: 4"}, "5\r\nhello\r\n0\r\n\r\n", 413, "MaxContentLengthExceeded"},
		{"negative max-content-length", "PUT", "/admin/stor/chunked2", []string{"Transfer-Encoding: chunked", "Max-Content-Length: -1"}, "0\r\n\r\n", 400, "InvalidMaxContentLength"},
		{"durability 0", "PUT", "/admin/stor/n5", []string{"Durability-Level: 0", "Content-Length: 1"}, "x", 400, "InvalidDurabilityLevel"},
		{"durability 7", "PUT", "/admin/stor/n5", []string{"X-Durability-Level: 7", "Content-Length: 1"}, "x", 400, "InvalidDurabilityLevel"},
		{"too large for the storage", "PUT", "/admin/stor/n5", []string{"Content-Length: 2000000", "Expect: 100-continue"}, "", 507, "NotEnoughSpace"},
		{"wrong md5", "PUT", "/admin/stor/n5", []string{"Content-MD5: " + md5Text("y"), "Content-Length: 1"}, "x", 400, "ContentMD5Mismatch"},
		{"md5 that is none", "PUT", "/admin/stor/n5", []string{"Content-MD5: abc", "Content-Length: 1"}, "x", 400, "BadRequest"},
		{"wrong md5 of an empty object goes unseen", "PUT", "/admin/stor/empty", []string{"Content-MD5: " + md5Text("y"), "Content-Length: 0"}, "", 204, ""},
		{"link", "PUT", "/admin/stor/l", []string{"Content-Type: application/json; type=link", "Location: /admin/stor/o"}, "", 403, "SnaplinksDisabledError"},
		{"metadata update of nothing", "PUT", "/admin/stor/n6?metadata=true", []string{"Transfer-Encoding: chunked"}, "0\r\n\r\n", 404, "ResourceNotFound"},
		{"metadata update with a length", "PUT", "/admin/stor/o?metadata=true", []string{"Content-Length: 0"}, "", 400, "InvalidUpdate"},
		{"metadata update with durability", "PUT", "/admin/stor/o?metadata=true", []string{"Durability-Level: 3"}, "", 400, "InvalidUpdate"},
	}
}

func readRows(etag, other string) []row {
	return []row{
		{"missing object", "GET", "/admin/stor/none", nil, "", 404, "ResourceNotFound"},
		{"missing object below nothing", "GET", "/admin/stor/no/none", nil, "", 404, "ResourceNotFound"},
		{"head of a missing object", "HEAD", "/admin/stor/none", nil, "", 404, ""},
		{"not modified", "GET", "/admin/stor/o", []string{"If-None-Match: " + etag}, "", 304, ""},
		{"not modified head", "HEAD", "/admin/stor/o", []string{"If-None-Match: *"}, "", 304, ""},
		{"if-match on get", "GET", "/admin/stor/o", []string{"If-Match: " + other}, "", 412, "PreconditionFailed"},
		{"modified since long ago", "GET", "/admin/stor/o", []string{"If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"}, "", 200, ""},
		{"unmodified since long ago", "GET", "/admin/stor/o", []string{"If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT"}, "", 412, "PreconditionFailed"},
		{"accept something else", "GET", "/admin/stor/o", []string{"Accept: application/json"}, "", 406, "NotAcceptable"},
		{"accept anything at last", "GET", "/admin/stor/o", []string{"Accept: application/json, */*"}, "", 200, ""},
		{"accept-version", "GET", "/admin/stor/o", []string{"Accept-Version: ~1.0"}, "", 200, ""},
		{"range beyond the end", "GET", "/admin/stor/o", []string{"Range: bytes=5-"}, "", 416, "RangeNotSatisfiable"},
		{"several ranges", "GET", "/admin/stor/o", []string{"Range: bytes=0-0,2-3"}, "", 501, "NotImplemented"},
		{"another account's area", "GET", "/other/stor", nil, "", 403, "AuthorizationFailed"},
		{"unknown account's area", "GET", "/nobody/stor", nil, "", 403, "AccountDoesNotExist"},
	}
}

func otherRows(other string) []row {
	return []row{
		{"delete of a directory with entries", "DELETE", "/admin/stor/full", nil, "", 400, "DirectoryNotEmpty"},
		{"delete of nothing", "DELETE", "/admin/stor/none", nil, "", 404, "ResourceNotFound"},
		{"delete of the root", "DELETE", "/admin/stor", nil, "", 400, "OperationNotAllowedOnRootDirectory"},
		{"delete of another version", "DELETE", "/admin/stor/o", []string{"If-Match: " + other}, "", 412, "PreconditionFailed"},

		{"limit 0", "GET", "/admin/stor/full?limit=0", nil, "", 400, "InvalidArgumentError"},
		{"limit 1025", "GET", "/admin/stor/full?limit=1025", nil, "", 400, "InvalidArgumentError"},
		{"limit that is no number", "GET", "/admin/stor/full?limit=x", nil, "", 500, "InternalError"},
		{"limit 1024", "GET", "/admin/stor/full?limit=1024", nil, "", 200, ""},
		{"unordered listing", "GET", "/admin/stor/full?sort=none", nil, "", 403, "QueryParameterForbidden"},
		{"marker that is no time", "GET", "/admin/stor/full?sort=mtime&marker=x", nil, "", 400, "InvalidParameter"},
		{"jobs", "GET", "/admin/jobs", nil, "", 404, "ResourceNotFound"},
		{"multipart uploads", "POST", "/admin/uploads", []string{"Content-Length: 0"}, "", 404, "ResourceNotFound"},
		{"post of an object", "POST", "/admin/stor/o", []string{"Content-Length: 0"}, "", 405, "MethodNotAllowed"},
		{"auth token", "POST", "/admin/tokens", []string{"Content-Length: 0"}, "", 501, "NotImplemented"},
		{"nothing at all", "GET", "/", nil, "", 404, "ResourceNotFound"},
	}
}

// TestAnswersFollowTheService is the table of facts: one request each over a raw
// connection, in a world that is the same for every row.
func TestAnswersFollowTheService(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxObject = 1 << 20; c.Accounts = append(c.Accounts, Account{Login: "other"}) })
	l.mkdir("/admin/stor/d")
	l.mkdir("/admin/stor/full")
	l.mustPut("/admin/stor/full/x", "x")
	etag := l.mustPut("/admin/stor/o", "hello", "Content-Type: text/plain", "m-color: blue", "Durability-Level: 3").header.Get("Etag")
	l.mustPut("/admin/public/p", "public")
	l.mustPut("/admin/stor/empty", "")
	other := formatUUID(newID())
	rows := slices.Concat(conditionRows(etag, other), uploadRows(), readRows(etag, other), otherRows(other))
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			a := l.raw(r.method, l.head(r.method, r.path, r.lines...)+"\r\n"+r.body)
			if a.status != r.status || a.code() != r.code {
				t.Fatalf("got %d %q, want %d %q: %s %v", a.status, a.code(), r.status, r.code, a.body, a.readErr)
			}
			if r.code != "" && a.header.Get("Content-MD5") != md5Text(a.body) {
				t.Errorf("error body without its MD5: %v", a.header)
			}
			for _, h := range []string{"X-Request-Id", "X-Response-Time", "X-Server-Name", "Date"} {
				if a.header.Get(h) == "" {
					t.Errorf("no %s", h)
				}
			}
		})
	}
	if a := l.do("HEAD", "/admin/stor/n5"); a.status != 404 {
		t.Errorf("a refused upload left an object: %d", a.status)
	}
	if a := l.do("GET", "/admin/stor/o"); a.body != "hello" || a.header.Get("Etag") != etag {
		t.Errorf("a refused upload changed an object: %q", a.body)
	}
}

func TestObjectsComeBackWithTheirHeaders(t *testing.T) {
	l := newLab(t)
	p := l.mustPut("/admin/stor/o", "hello", "Content-Type: text/plain", "m-color: blue", "X-Durability-Level: 3", "Cache-Control: no-store")
	for _, h := range []string{"Etag", "Last-Modified", "Computed-Md5"} {
		if p.header.Get(h) == "" {
			t.Errorf("put: no %s", h)
		}
	}
	want := map[string]string{
		"Content-Md5": md5Text("hello"), "Content-Length": "5", "Content-Type": "text/plain", "Durability-Level": "3",
		"M-Color": "blue", "Cache-Control": "no-store", "Etag": p.header.Get("Etag"), "Last-Modified": p.header.Get("Last-Modified"),
		"Server": "Manta", "X-Request-Id": "my-id",
	}
	for _, method := range []string{"GET", "HEAD"} {
		a := l.do(method, "/admin/stor/o", "X-Request-Id: my-id")
		for k, v := range want {
			if a.header.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", method, k, a.header.Get(k), v)
			}
		}
		if method == "GET" && a.body != "hello" {
			t.Errorf("body %q", a.body)
		}
	}
	again := l.mustPut("/admin/stor/o", "hello")
	if again.header.Get("Etag") == p.header.Get("Etag") {
		t.Error("the etag stayed over a PUT of the same bytes")
	}
	if ct := l.do("HEAD", "/admin/stor/o").header.Get("Content-Type"); ct != "text/plain" {
		t.Errorf("a PUT without Content-Type did not keep the old one: %q", ct)
	}
	if e := l.mustPut("/admin/stor/e", "").header; e.Get("Computed-Md5") != md5Text("") {
		t.Errorf("empty object: md5 %q", e.Get("Computed-Md5"))
	}
	if d := l.do("GET", "/admin/stor/e").header.Get("Durability-Level"); d != "0" {
		t.Errorf("empty object: durability %q", d)
	}
}

func TestRangesAreServedWithoutMD5(t *testing.T) {
	l := newLab(t)
	body := strings.Repeat("0123456789", 20000)
	l.mustPut("/admin/stor/o", body)
	for rng, want := range map[string]string{
		"bytes=0-4": body[:5], "bytes=199990-": body[199990:], "bytes=-3": body[len(body)-3:],
		"bytes=5-9999999": body[5:], "bytes=-9999999": body,
	} {
		a := l.do("GET", "/admin/stor/o", "Range: "+rng)
		if a.status != 206 || a.body != want || a.header.Get("Content-Md5") != "" || a.header.Get("Content-Range") == "" {
			t.Errorf("%s: %d, %d bytes, %v", rng, a.status, len(a.body), a.header)
		}
	}
	if a := l.do("GET", "/admin/stor/o", "Range: lines=1-2"); a.status != 200 || a.body != body || a.header.Get("Content-Md5") != "" {
		t.Errorf("nonsense range: %d %v", a.status, a.header)
	}
	if a := l.do("GET", "/admin/stor/o", "Range: bytes=200000-"); a.status != 416 || a.header.Get("Content-Range") != "bytes */200000" {
		t.Errorf("range beyond the end: %d %v", a.status, a.header)
	}
}

// TestNothingIsAskedForBeforeEveryCheckHeld: a client that saw 100 Continue has
// drained its source and cannot send again after making the parent.
func TestNothingIsAskedForBeforeEveryCheckHeld(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/stor/o", "x")
	for path, status := range map[string]int{
		"/admin/stor/no/o": 404, "/admin/stor/o/x": 400, "/admin/stor/o": 412,
	} {
		lines := []string{"Expect: 100-continue", "Content-Length: 5"}
		if status == 412 {
			lines = append(lines, `If-Match: ""`)
		}
		a := l.do("PUT", path, lines...)
		if a.status != status {
			t.Errorf("%s: first answer is %d, want %d", path, a.status, status)
		}
	}
	c := l.dial()
	defer c.Close()
	io.WriteString(c, l.head("PUT", "/admin/stor/new", "Expect: 100-continue", "Content-Length: 5")+"\r\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("no 100 Continue: %q %v", line, err)
	}
	r.ReadString('\n')
	io.WriteString(c, "hello")
	if a := l.read(r, "PUT"); a.status != 204 {
		t.Fatalf("after 100: %d %s", a.status, a.body)
	}
}

func TestARefusedUploadWithoutExpectIsReadAndTheConnectionGoesOn(t *testing.T) {
	l := newLab(t)
	c := l.dial()
	defer c.Close()
	body := strings.Repeat("x", 3<<20)
	go io.WriteString(c, l.head("PUT", "/admin/stor/no/o", fmt.Sprintf("Content-Length: %d", len(body)))+"\r\n"+body+
		l.head("HEAD", "/admin/stor")+"\r\n")
	r := bufio.NewReader(c)
	if a := l.read(r, "PUT"); a.status != 404 {
		t.Fatalf("put: %d %v", a.status, a.readErr)
	}
	if a := l.read(r, "HEAD"); a.status != 200 {
		t.Fatalf("the connection did not survive: %d %v", a.status, a.readErr)
	}
}

func TestABrokenUploadLeavesNothing(t *testing.T) {
	l := newLab(t, func(c *Config) { c.DataTimeout = 200 * time.Millisecond })
	for _, size := range []int{10, 500_000} {
		c := l.dial()
		io.WriteString(c, l.head("PUT", "/admin/stor/short", fmt.Sprintf("Content-Length: %d", size*2))+"\r\n"+strings.Repeat("x", size))
		c.Close()
	}
	c := l.dial()
	defer c.Close()
	io.WriteString(c, l.head("PUT", "/admin/stor/stuck", "Content-Length: 10")+"\r\n123")
	if a := l.read(bufio.NewReader(c), "PUT"); a.status != 408 || a.code() != "UploadTimeout" {
		t.Errorf("stuck upload: %d %s %v", a.status, a.body, a.readErr)
	}
	if got := l.names("/admin/stor"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestMetadataIsReplacedWithoutTouchingTheObject(t *testing.T) {
	l := newLab(t)
	put := l.mustPut("/admin/stor/o", "hello", "Content-Type: text/plain", "m-a: 1", "m-b: 2")
	a := l.raw("PUT", l.head("PUT", "/admin/stor/o?metadata=true", "Transfer-Encoding: chunked", "m-c: 3", "X-Durability-Level: 2")+"\r\n0\r\n\r\n")
	if a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	g := l.do("GET", "/admin/stor/o")
	if g.body != "hello" || g.header.Get("Etag") != put.header.Get("Etag") || g.header.Get("Content-Type") != "text/plain" {
		t.Errorf("object changed: %q %v", g.body, g.header)
	}
	if g.header.Get("m-a") != "" || g.header.Get("m-c") != "3" {
		t.Errorf("metadata: %v", g.header)
	}
}

func TestUserMetadataBeyond4KBIsDropped(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/stor/o", "x", "m-a: "+strings.Repeat("a", 3000), "m-b: "+strings.Repeat("b", 3000))
	h := l.do("HEAD", "/admin/stor/o").header
	if len(h.Get("m-a")) != 3000 || h.Get("m-b") != "" {
		t.Errorf("m-a %d bytes, m-b %d bytes", len(h.Get("m-a")), len(h.Get("m-b")))
	}
}

func TestADirectoryReplacesAnObject(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/stor/o", "x")
	l.mkdir("/admin/stor/o")
	l.mustPut("/admin/stor/o/in", "y")
	if got := l.names("/admin/stor/o"); len(got) != 1 {
		t.Errorf("entries %v", got)
	}
}

func TestDeleteHonoursIfMatch(t *testing.T) {
	l := newLab(t)
	etag := l.mustPut("/admin/stor/o", "x").header.Get("Etag")
	if a := l.do("DELETE", "/admin/stor/o", "If-Match: "+etag); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := l.do("HEAD", "/admin/stor/o"); a.status != 404 {
		t.Errorf("still there: %d", a.status)
	}
	l.mkdir("/admin/stor/d")
	if a := l.do("DELETE", "/admin/stor/d"); a.status != 204 {
		t.Errorf("empty directory: %d %s", a.status, a.body)
	}
}

func TestTheDirectoryLimitIsKept(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxDirEntries = 2 })
	for i := range 3 { // the service lets one more in than it says
		l.mustPut(fmt.Sprintf("/admin/stor/o%d", i), "x")
	}
	if a := l.put("/admin/stor/o3", "x"); a.status != 409 || a.code() != "DirectoryLimitExceeded" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestTheCommitChecksTheEtagAgain(t *testing.T) {
	l := newLab(t)
	// Both hold the first check before either sends its body.
	var conns [2]*bufio.ReadWriter
	for i := range conns {
		c := l.dial()
		defer c.Close()
		conns[i] = bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
		io.WriteString(c, l.head("PUT", "/admin/stor/lease", `If-Match: ""`, "Expect: 100-continue", "Content-Length: 1")+"\r\n")
		if line, _ := conns[i].ReadString('\n'); !strings.Contains(line, "100") {
			t.Fatalf("no 100 Continue: %q", line)
		}
		conns[i].ReadString('\n')
	}
	var got []answer
	for i, c := range conns {
		fmt.Fprint(c, i)
		c.Flush()
		got = append(got, l.read(c.Reader, "PUT"))
	}
	if got[0].status != 204 || got[1].status != 409 || got[1].code() != "ConcurrentRequest" {
		t.Fatalf("%d, %d %s", got[0].status, got[1].status, got[1].body)
	}
	if b := l.do("GET", "/admin/stor/lease").body; b != "0" {
		t.Errorf("the loser's body is there: %q", b)
	}
}

func TestExactlyOneOfManyCreatesWins(t *testing.T) {
	l := newLab(t)
	const racers = 16
	for round := range 10 {
		path := fmt.Sprintf("/admin/stor/lease%d", round)
		results := make(chan int, racers)
		start := make(chan struct{})
		for i := range racers {
			go func() {
				r := l.request("PUT", path, strings.NewReader(fmt.Sprint(i)), int64(len(fmt.Sprint(i))))
				r.Header.Set("If-Match", `""`)
				<-start
				res, err := l.client.Do(r)
				if err != nil {
					t.Error(err)
					results <- 0
					return
				}
				res.Body.Close()
				results <- res.StatusCode
			}()
		}
		close(start)
		count := map[int]int{}
		for range racers {
			count[<-results]++
		}
		if count[204] != 1 || count[412]+count[409] != racers-1 {
			t.Fatalf("round %d: %v", round, count)
		}
	}
}

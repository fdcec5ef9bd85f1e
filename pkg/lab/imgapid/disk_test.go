package imgapid

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

func TestOrderOfDiskOperationsAndFormOfTheFiles(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("disk", `,"tags":{"a":"b"},"description":"d"`)
	raw, err := os.ReadFile(s.data("manifests/" + u + ".raw"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("{\n  \"v\": 2,\n  \"owner\": %q,\n  \"name\": \"disk\",\n  \"version\": \"1.0.0\",\n  \"type\": \"zone-dataset\",\n  \"os\": \"smartos\",\n  \"public\": true,\n  \"disabled\": false,\n  \"activated\": false,\n  \"state\": \"unactivated\",\n  \"acl\": [],\n  \"description\": \"d\",\n  \"tags\": [\n    \"a=b\"\n  ],\n  \"tagsObj\": {\n    \"a\": \"b\"\n  },\n  \"uuid\": %q\n}", owner, u)
	if string(raw) != want {
		t.Errorf("raw:\n%s\nwant:\n%s", raw, want)
	}
	if fi, _ := os.Stat(s.data("manifests/" + u + ".raw")); fi.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", fi.Mode())
	}
	// a full disk at creation leaves an empty archive file and no manifest
	before, _ := filepath.Glob(s.data("archive/*/*.json"))
	f, _ := s.faults.Add(fault.Fault{Kind: fault.DiskFull, Service: Service, Method: "POST"})
	a := s.want(500, post("/images", `{"name":"x","version":"1","os":"linux","type":"other","owner":"`+owner+`","public":true}`))
	if a.code() != "" || !strings.Contains(string(a.body), "ENOSPC: no space left on device, write") {
		t.Errorf("%s", a.body)
	}
	after, _ := filepath.Glob(s.data("archive/*/*.json"))
	raws, _ := filepath.Glob(s.data("manifests/*.raw"))
	if len(after) != len(before)+1 || len(raws) != 1 {
		t.Errorf("archive %d -> %d, manifests %d", len(before), len(after), len(raws))
	}
	s.faults.Remove(f.ID)
	s.want(200, put("/images/"+u+"/file?compression=gzip", "bytes"))
	b, _ := os.ReadFile(s.data("images/" + u[:3] + "/" + u + "/file0"))
	if string(b) != "bytes" {
		t.Errorf("file0 %q", b)
	}
}

func TestAFailedWriteLeavesMemoryAheadOfDiskUntilCachesAreDropped(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("a", "")
	s.want(200, put("/images/"+u+"/file?compression=none", "x"))
	f, _ := s.faults.Add(fault.Fault{Kind: fault.DiskFull, Service: Service, Method: "POST"})
	s.want(500, post("/images/"+u+"?action=activate", ""))
	s.faults.Remove(f.ID)
	if st := s.want(200, get("/images/"+u)).object(t)["state"]; st != "active" {
		t.Errorf("GetImage says %v", st)
	}
	if l := s.want(200, get("/images")).list(t); len(l) != 0 {
		t.Error("the listing must not show it")
	}
	if a := s.want(422, post("/images/"+u+"?action=activate", "")); a.code() != "ImageAlreadyActivated" {
		t.Errorf("%s", a.body)
	}
	s.want(202, post("/state?action=dropcaches", ""))
	if st := s.want(200, get("/images/"+u)).object(t)["state"]; st != "unactivated" {
		t.Errorf("after dropcaches: %v", st)
	}
	s.want(409, post("/state?action=nonsense", ""))
}

func TestUploadsThatFailAreLeftBehind(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("a", "")
	dir := s.data("images/" + u[:3] + "/" + u)
	s.want(400, put("/images/"+u+"/file?compression=none&sha1=beef", "wrong"))
	s.want(400, put("/images/"+u+"/file?compression=none", ""))
	// a client that goes away in the middle
	c, err := net.Dial("tcp", s.p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	const id = "11111111-2222-4333-8444-555555555555"
	fmt.Fprintf(c, "PUT /images/%s/file?compression=none HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\nDate: %s\r\nAuthorization: %s\r\nContent-Length: 1000\r\n\r\nhalf",
		u, id, date, sign(testKey(), "alice", "rsa-sha1", "date: "+date))
	path := filepath.Join(dir, "file0."+id)
	waitFor(t, "the aborted upload", func() bool { b, _ := os.ReadFile(path); return string(b) == "half" })
	c.Close()
	s.want(200, put("/images/"+u+"/file?compression=none", "right"))
	s.want(204, del("/images/"+u))
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left behind: %v %v; want three uploads", left, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestDeleteRemovesTheManifestBeforeItMissesTheFile(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "x")
	if err := os.Remove(s.data("images/" + u[:3] + "/" + u + "/file0")); err != nil {
		t.Fatal(err)
	}
	if a := s.want(500, del("/images/"+u)); a.code() != "InternalError" || !strings.Contains(string(a.body), "ENOENT") {
		t.Errorf("%s", a.body)
	}
	s.want(404, get("/images/"+u))
}

func TestManifestsAreReadAtStartOnly(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "x")
	raw, _ := os.ReadFile(s.data("manifests/" + u + ".raw"))
	const dropped = "11111111-1111-4111-8111-111111111111"
	s.write("manifests/"+dropped+".raw", strings.ReplaceAll(string(raw), u, dropped))
	for name, text := range map[string]string{
		"22222222-2222-4222-8222-222222222222.raw":     string(raw[:40]),
		"33333333-3333-4333-8333-333333333333.raw":     string(raw),
		"44444444-4444-4444-8444-444444444444.raw":     strings.Replace(strings.ReplaceAll(string(raw), u, "44444444-4444-4444-8444-444444444444"), "smartos", "beos", 1),
		"55555555-5555-4555-8555-555555555555.raw.tmp": string(raw), "x.json": "{}",
	} {
		s.write("manifests/"+name, text)
	}
	if err := os.Mkdir(s.data("manifests/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.data("manifests/" + u + ".raw")); err != nil {
		t.Fatal(err)
	}
	s.want(202, post("/state?action=dropcaches", ""))
	s.want(404, get("/images/"+dropped))
	s.want(200, get("/images/"+u))
	s.want(200, post("/images/"+u+"?action=update", `{"description":"back"}`))
	if _, err := os.Stat(s.data("manifests/" + u + ".raw")); err != nil {
		t.Error("an update must recreate the removed manifest")
	}
	s.restart()
	l := s.want(200, signedGet("/images?state=all")).list(t)
	if len(l) != 2 {
		t.Errorf("%d images after restart, want 2: %v", len(l), l)
	}
	if n := strings.Count(s.log.String(), `"level":40`); n != 6 {
		t.Errorf("%d warnings, want 6:\n%s", n, s.log)
	}
}

func TestATornManifestCanBeMetOnDisk(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "x")
	path := s.data("manifests/" + u + ".raw")
	f, err := s.faults.Add(fault.Fault{Kind: SlowRewrite, Service: Service, Method: "POST", Delay: fault.Duration(400 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan answer)
	go func() { done <- s.do(post("/images/"+u+"?action=update", `{"description":"slow"}`)) }()
	waitFor(t, "a torn manifest", func() bool { b, _ := os.ReadFile(path); return len(b) > 0 && !json.Valid(b) })
	s.want(200, get("/images/"+u)) // reads go on meanwhile
	if a := <-done; a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.faults.Remove(f.ID)
	if b, _ := os.ReadFile(path); !json.Valid(b) {
		t.Error("still torn after the answer")
	}
	if _, err := s.faults.Add(fault.Fault{Kind: CrashMidWrite, Service: Service, Method: "POST", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(post("/images/"+u+"?action=update", `{"description":"cut"}`)); err == nil {
		t.Error("the process should have died")
	}
	<-s.p.Done()
	if b, _ := os.ReadFile(path); json.Valid(b) {
		t.Error("the manifest should be torn")
	}
	s.start()
	s.want(404, get("/images/"+u)) // vanished
}

func TestFilesThatAreNotAsTheManifestSays(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "content")
	path := s.data("images/" + u[:3] + "/" + u + "/file0")
	if err := os.WriteFile(path, []byte("changed and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := s.want(200, get("/images/"+u+"/file")); string(a.body) != "changed" || a.err != nil {
		t.Errorf("longer file: %q %v", a.body, a.err)
	}
	if err := os.WriteFile(path, []byte("cont"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	a := s.do(get("/images/" + u + "/file"))
	if a.status != 200 || string(a.body) != "cont" || a.err != io.ErrUnexpectedEOF || time.Since(start) < s.cfg.Stall {
		t.Errorf("short file: %d %q %v after %s", a.status, a.body, a.err, time.Since(start))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a = s.do(get("/images/" + u + "/file"))
	if a.status != 500 || a.h.Get("Content-Length") != "7" || len(a.body) != 0 || a.err == nil {
		t.Errorf("missing file: %d %v %q %v", a.status, a.h, a.body, a.err)
	}
}

func TestTwoUploadsAtOnceEndConsistent(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("a", "")
	done := make(chan int)
	contents := []string{strings.Repeat("a", 50000), strings.Repeat("b", 60000)}
	for _, c := range contents {
		go func() { done <- s.do(put("/images/"+u+"/file?compression=none", c)).status }()
	}
	if a, b := <-done, <-done; a != 200 || b != 200 {
		t.Errorf("statuses %d %d", a, b)
	}
	got := s.want(200, get("/images/"+u+"/file"))
	if !slices.Contains(contents, string(got.body)) || got.h.Get("Etag") != sha(string(got.body)) {
		t.Errorf("%d bytes, etag %s", len(got.body), got.h.Get("Etag"))
	}
}

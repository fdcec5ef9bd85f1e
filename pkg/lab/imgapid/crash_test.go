package imgapid

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

func TestRequestsThatKillTheProcess(t *testing.T) {
	s := newSite(t, map[string]any{"channels": []map[string]any{{"name": "dev", "description": "d", "default": true}}})
	u := s.active("a", "x")
	bare := s.create("no file", "")
	keyID := func(name, path string) request {
		return request{method: "GET", path: path, unsigned: true, header: map[string]string{
			"Date":          time.Now().UTC().Format(http.TimeFormat),
			"Authorization": fmt.Sprintf(`Signature keyId="%s",algorithm="rsa-sha256",headers="date",signature="bm8="`, name)}}
	}
	deadly := map[string]request{
		"jobs": get("/images/" + u + "/jobs"), "sort twice": get("/images?sort=a&sort=b"), "billing tag": get("/images?billing_tag=x"),
		"public=maybe": get("/images?public=maybe"), "key id constructor": keyID("constructor", "/state"), "key id __proto__": keyID("__proto__", "/ping"),
		"key id toString": keyID("toString", "/ping"), "create without body": post("/images", ""), "create {}": post("/images", "{}"),
		"create from a form":   {method: "POST", path: "/images", body: "name=x", ctype: "application/x-www-form-urlencoded"},
		"create without owner": post("/images", `{"name":"x","version":"1","os":"linux","type":"other","public":true}`),
		"unknown action":       post("/images?action=unknown", `{"a":1}`), "import without body": post("/images/"+owner+"?action=import", ""),
		"request id":     {method: "PUT", path: "/images/" + bare + "/file?compression=none", body: "x", header: map[string]string{"X-Request-Id": "not-a-uuid"}},
		"delete no icon": del("/images/" + u + "/icon"), "change-stor without file": post("/images/"+bare+"?action=change-stor&stor=local", ""),
		"channel-add without body": post("/images/"+u+"?action=channel-add", ""),
	}
	for name, rq := range deadly {
		if a, err := s.try(rq); err == nil {
			t.Errorf("%s: answered %d %s", name, a.status, a.body)
			continue
		}
		select {
		case <-s.p.Done():
		case <-time.After(3 * time.Second):
			t.Fatalf("%s: still running", name)
		}
		if _, err := s.try(get("/ping")); err == nil {
			t.Errorf("%s: port still answers", name)
		}
		if e := s.p.Exit(); e == nil || e.Status != 134 {
			t.Errorf("%s: exit %v", name, e)
		}
		s.start()
		s.want(200, get("/images/"+u))
	}
	if n := strings.Count(s.log.String(), "uncaught exception"); n != len(deadly) {
		t.Errorf("%d crashes logged, want %d", n, len(deadly))
	}
}

func TestAFullDiskDuringAnUploadKillsTheProcess(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("a", "")
	if _, err := s.faults.Add(fault.Fault{Kind: fault.DiskFull, Service: Service, Method: "PUT", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(put("/images/"+u+"/file?compression=none", "x")); err == nil {
		t.Error("answered")
	}
	<-s.p.Done()
	left, err := os.ReadDir(s.data("images/" + u[:3] + "/" + u))
	if err != nil || len(left) != 1 || !strings.HasPrefix(left[0].Name(), "file0.") {
		t.Errorf("left %v %v", left, err)
	}
}

func TestACrashTakesRequestsInFlightWithIt(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "content")
	if err := os.Truncate(s.data("images/"+u[:3]+"/"+u+"/file0"), 3); err != nil {
		t.Fatal(err)
	}
	s.p.Kill()
	s.cfg.Stall = 10 * time.Second
	s.start()
	got := make(chan error)
	go func() {
		a, err := s.try(get("/images/" + u + "/file"))
		if err == nil {
			err = a.err
		}
		got <- err
	}()
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	s.p.Crash("test")
	if err := <-got; err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("request in flight ended with %v after %s", err, time.Since(start))
	}
	if _, err := s.faults.Add(fault.Fault{Kind: Crash, Service: Service, Path: "/ping", Count: 1}); err != nil {
		t.Fatal(err)
	}
	s.start()
	if _, err := s.try(get("/ping")); err == nil {
		t.Error("the crash fault did not kill")
	}
}

func TestWithoutAuthTheKeyNamesAreHarmless(t *testing.T) {
	s := newSite(t, map[string]any{"authType": "none"})
	s.want(200, request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{
		"Authorization": `Signature keyId="constructor",algorithm="rsa-sha256",headers="date",signature="bm8="`}})
}

package imgapid

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

func TestPingAndItsHeaders(t *testing.T) {
	s := newSite(t, map[string]any{"serverName": "lab images"})
	a := s.want(200, get("/ping"))
	if string(a.body) != "{\n  \"ping\": \"pong\",\n  \"version\": \"4.13.1\",\n  \"imgapi\": true\n}" {
		t.Errorf("body %q", a.body)
	}
	for k, want := range map[string]string{"Server": "lab images", "X-Server-Name": "imgapi-test-1", "Content-Type": "application/json"} {
		if a.h.Get(k) != want {
			t.Errorf("%s: %q, want %q", k, a.h.Get(k), want)
		}
	}
	if !uuidRE.MatchString(a.h.Get("X-Request-Id")) || a.h.Get("X-Response-Time") == "" {
		t.Errorf("headers %v", a.h)
	}
	signed := s.want(200, signedGet("/ping")).object(t)
	if signed["user"] != "alice" || signed["pid"] == nil {
		t.Errorf("signed ping: %v", signed)
	}
	echo := s.do(request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{"X-Request-Id": "not a uuid"}})
	if echo.h.Get("X-Request-Id") != "not a uuid" {
		t.Error("request id is not echoed")
	}
}

func TestRoutingErrorsAreBareAndHeadIsNeverAllowed(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "x")
	for _, path := range []string{"/ping", "/images/" + u, "/images/" + u + "/file"} {
		a := s.want(405, request{method: "HEAD", path: path, unsigned: true})
		if !strings.Contains(a.h.Get("Allow"), "GET") || a.h.Get("X-Request-Id") != "" || a.h.Get("Server") != "" {
			t.Errorf("HEAD %s: %v", path, a.h)
		}
	}
	if a := s.want(405, del("/ping")); a.code() != "MethodNotAllowedError" {
		t.Errorf("%s", a.body)
	}
	for _, path := range []string{"/nothing", "/images/", "/images/" + u + "/", "/images/" + strings.ToUpper(u), "/channels", "/images/" + u + "/clone"} {
		if a := s.want(404, get(path)); a.code() != "ResourceNotFound" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	bad := s.want(400, request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{"Accept-Version": "~9"}})
	if bad.code() != "InvalidVersion" {
		t.Errorf("%s", bad.body)
	}
	if a := s.do(request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{"Accept": "text/plain"}}); string(a.body) != `{"ping":"pong","version":"4.13.1","imgapi":true}` {
		t.Errorf("text/plain: %s", a.body)
	}
	s.want(406, request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{"Accept": "application/xml"}})
	if a := s.want(301, get("/docs")); len(a.h.Values("Date")) != 2 || a.h.Get("Location") != "/docs/" {
		t.Errorf("redirect: %v", a.h)
	}
	if a := s.want(422, get("/ping?error=ValidationFailed")); a.code() != "ValidationFailed" {
		t.Errorf("%s", a.body)
	}
	s.want(422, get("/ping?error=Nonsense"))
	s.want(500, get("/ping?error"))
}

func TestLifeOfAnImage(t *testing.T) {
	s := newSite(t, nil)
	bad := s.want(422, post("/images", `{"name":"x","type":"zone-dataset","owner":"`+owner+`"}`))
	if got := bad.object(t)["message"]; got != "invalid image data: version, public, os" {
		t.Errorf("message %q", got)
	}
	u := s.create("base-64-lts", `,"tags":{"role":"os","n":1}`)
	im := s.want(200, get("/images/"+u)).object(t) // without auth
	if im["state"] != "unactivated" || im["published_at"] != nil {
		t.Errorf("%v", im)
	}
	if a := s.want(422, post("/images/"+u+"?action=activate", "")); a.code() != "NoActivationNoFile" {
		t.Errorf("%s", a.body)
	}
	s.want(400, put("/images/"+u+"/file?compression=none&sha1=beef", "content"))
	a := s.want(200, put("/images/"+u+"/file?compression=none&sha1="+sha("content"), "content"))
	f := a.object(t)["files"].([]any)[0].(map[string]any)
	if f["sha1"] != sha("content") || f["size"] != 7.0 || f["contentMD5"] != nil || f["stor"] != nil {
		t.Errorf("file %v", f)
	}
	if a := s.want(422, put("/images/"+u+"/file?compression=zip", "x")); a.code() != "InvalidParameter" {
		t.Errorf("%s", a.body)
	}
	act := s.want(200, post("/images/"+u+"?action=activate", "")).object(t)
	if act["state"] != "active" || act["published_at"] == nil {
		t.Errorf("%v", act)
	}
	s.want(422, post("/images/"+u+"?action=activate", ""))
	if a := s.want(422, put("/images/"+u+"/file?compression=none", "other")); a.code() != "ImageFilesImmutable" {
		t.Errorf("%s", a.body)
	}
	s.want(200, post("/images/"+u+"?action=disable", ""))
	if l := s.want(200, get("/images")).list(t); len(l) != 0 {
		t.Errorf("disabled image listed: %v", l)
	}
	s.want(200, post("/images/"+u+"?action=enable", ""))
	if a := s.want(422, post("/images/"+u+"?action=update", `{"published_at":"2020-01-01T00:00:00Z"}`)); a.code() != "ValidationFailed" {
		t.Errorf("%s", a.body)
	}
	s.want(422, post("/images/"+u+"?action=update", `{}`))
	if got := s.want(200, post("/images/"+u+"?action=update", `{"description":"né <&>"}`)).object(t)["description"]; got != "né <&>" {
		t.Errorf("description %q", got)
	}
	if acl := s.want(200, post("/images/"+u+"/acl", `["`+owner+`"]`)).object(t)["acl"]; len(acl.([]any)) != 1 {
		t.Errorf("acl %v", acl)
	}
	s.want(200, post("/images/"+u+"/acl?action=remove", `["`+owner+`"]`))
	child := s.create("child", `,"origin":"`+u+`"`)
	if a := s.want(422, del("/images/"+u)); a.code() != "ImageHasDependentImages" {
		t.Errorf("%s", a.body)
	}
	s.want(204, del("/images/"+child))
	s.want(204, del("/images/"+u))
	s.want(404, get("/images/"+u))
	if _, err := os.Stat(s.data("archive/" + u[:3] + "/" + u + ".json")); err != nil {
		t.Error("delete removed the archived copy")
	}
}

func TestImportKeepsUUIDAndTimeAndForcesTheOwner(t *testing.T) {
	s := newSite(t, nil)
	const u = "0084dad6-05c1-11e4-b7ce-1f0e09d94a41"
	s.importAt(u, "imp", "2014-07-07T10:42:17Z")
	im := s.want(200, get("/images/"+u)).object(t)
	if im["owner"] != unsetOwner || im["published_at"] != "2014-07-07T10:42:17Z" || im["state"] != "active" {
		t.Errorf("%v", im)
	}
	if a := s.want(409, post("/images/"+u+"?action=import", `{"uuid":"`+u+`"}`)); a.code() != "ImageUuidAlreadyExists" {
		t.Errorf("%s", a.body)
	}
	if a := s.want(422, post("/images/"+owner+"?action=import", `{"uuid":"`+u+`"}`)); a.code() != "InvalidParameter" {
		t.Errorf("%s", a.body)
	}
	extra := s.do(post("/images/"+owner+"?action=import", `{"v":2,"uuid":"`+owner+`","name":"a","version":"1","os":"linux","type":"other","public":true,"bogus":1}`))
	if extra.status != 422 || !strings.Contains(string(extra.body), `invalid extra parameters: \"bogus\"`) {
		t.Errorf("%d %s", extra.status, extra.body)
	}
}

func TestModesRefuseEachOthersImages(t *testing.T) {
	pub := newSite(t, nil)
	pub.want(422, post("/images", `{"name":"x","version":"1","os":"linux","type":"other","owner":"`+owner+`","public":false}`))
	priv := newSite(t, map[string]any{"mode": "private"})
	priv.want(422, post("/images", `{"name":"x","version":"1","os":"linux","type":"other","owner":"`+owner+`","public":true}`))
	u := pub.active("a", "x")
	pub.configure(map[string]any{"mode": "private"})
	pub.restart()
	if pub.p.Images() != 0 {
		t.Error("a mode change must make every manifest invalid")
	}
	pub.want(404, get("/images/"+u))
}

func TestIconsHaveTheirOwnLife(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "x")
	s.want(404, get("/images/"+u+"/icon"))
	s.want(400, put("/images/"+u+"/icon", "png"))
	s.want(400, request{method: "PUT", path: "/images/" + u + "/icon", body: strings.Repeat("x", maxIcon+1), ctype: "image/png"})
	im := s.want(200, request{method: "PUT", path: "/images/" + u + "/icon", body: "png", ctype: "image/png"}).object(t)
	if im["icon"] != true {
		t.Errorf("%v", im)
	}
	a := s.want(200, get("/images/"+u+"/icon"))
	if string(a.body) != "png" || a.h.Get("Content-Type") != "image/png" || a.h.Get("Etag") != sha("png") {
		t.Errorf("%v %q", a.h, a.body)
	}
	if a := s.want(400, post("/images/"+u+"?action=change-stor&stor=local", "")); a.code() != "NotImplemented" {
		t.Errorf("%s", a.body)
	}
	s.want(200, del("/images/"+u+"/icon"))
	if got := s.want(200, post("/images/"+u+"?action=change-stor&stor=local", "")).object(t)["files"].([]any)[0].(map[string]any)["stor"]; got != "local" {
		t.Errorf("stor %v", got)
	}
	s.want(422, post("/images/"+u+"?action=change-stor&stor=manta", ""))
}

func TestChannels(t *testing.T) {
	s := newSite(t, map[string]any{"channels": []map[string]any{{"name": "dev", "description": "d", "default": true}, {"name": "release", "description": "r"}}})
	u := s.active("a", "x")
	if l := s.want(200, get("/channels")).list(t); len(l) != 2 || l[0]["default"] != true {
		t.Errorf("%v", l)
	}
	s.want(404, get("/images/"+u+"?channel=release"))
	s.want(404, get("/images/"+u+"/file?channel=release"))
	s.want(200, get("/images/"+u+"?channel=*"))
	s.want(422, get("/images/"+u+"?channel=nope"))
	s.want(422, del("/images/"+u+"?channel=*"))
	s.want(200, post("/images/"+u+"?action=channel-add", `{"channel":"release"}`))
	im := s.do(request{method: "GET", path: "/images/" + u + "?channel=release", unsigned: true, header: map[string]string{"Accept-Version": "~2"}}).object(t)
	if ch, _ := im["channels"].([]any); len(ch) != 2 {
		t.Errorf("%v", im)
	}
	if s.want(200, get("/images/"+u)).object(t)["channels"] != nil {
		t.Error("channels shown to version 1")
	}
	s.want(204, del("/images/"+u+"?channel=dev"))
	s.want(404, get("/images/"+u))
	var archived map[string]any
	b, _ := os.ReadFile(s.data("archive/" + u[:3] + "/" + u + ".json"))
	if err := json.Unmarshal(b, &archived); err != nil || len(archived["channels"].([]any)) != 2 {
		t.Errorf("the archive must still list the channel that was left: %s", b)
	}
	s.want(204, del("/images/"+u+"?channel=release"))
	s.want(404, get("/images/"+u+"?channel=*"))
	v := s.active("b", "x")
	s.configure(nil)
	s.restart()
	s.want(404, get("/images/"+v)) // channels off: manifests with channels are invalid
}

func TestConditionalRequests(t *testing.T) {
	s := newSite(t, nil)
	u := s.active("a", "content")
	etag := s.want(200, get("/images/"+u)).h.Get("Etag")
	cond := func(path, k, v string) answer {
		return s.do(request{method: "GET", path: path, unsigned: true, header: map[string]string{k: v}})
	}
	for _, v := range []string{etag, `"` + etag + `"`, "*"} {
		if a := cond("/images/"+u, "If-None-Match", v); a.status != 304 {
			t.Errorf("If-None-Match %s: %d", v, a.status)
		}
	}
	a := cond("/images/"+u, "If-Match", "zzz")
	if a.status != 412 || a.object(t)["message"] != "if-match 'zzz' didn't match etag '"+etag+"'" {
		t.Errorf("%d %s", a.status, a.body)
	}
	file := s.want(200, get("/images/"+u+"/file"))
	if file.h.Get("Etag") != sha("content") || string(file.body) != "content" || file.h.Get("Accept-Ranges") != "" || file.h.Get("Content-Md5") != "mgNkuemLWvHxuLjDtDCAzQ==" && file.h.Get("Content-Md5") == "" {
		t.Errorf("%v", file.h)
	}
	if a := cond("/images/"+u+"/file", "If-None-Match", sha("content")); a.status != 200 {
		t.Errorf("the file's own etag gave %d", a.status)
	}
	if a := cond("/images/"+u+"/file", "If-None-Match", etag); a.status != 304 {
		t.Errorf("the manifest's etag on the file gave %d", a.status)
	}
	if a := cond("/images/"+u+"/file", "If-Modified-Since", file.h.Get("Last-Modified")); a.status != 304 {
		t.Errorf("If-Modified-Since: %d", a.status)
	}
	a = cond("/images/"+u+"/file", "If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT")
	if a.status != 412 || a.h.Get("Content-Type") != "application/octet-stream" || json.Valid(a.body) {
		t.Errorf("If-Unmodified-Since: %d %v %s", a.status, a.h, a.body)
	}
	if a := cond("/images/"+u+"/file", "Range", "bytes=0-1"); a.status != 200 || len(a.body) != 7 {
		t.Errorf("Range: %d %q", a.status, a.body)
	}
	s.want(404, get("/images/"+u+"/file?index=1"))
	s.want(200, get("/images/"+u+"/file?index=junk"))
	up := request{method: "POST", path: "/images/" + u + "?action=update", body: `{"description":"x"}`, header: map[string]string{"If-Match": "zzz"}}
	s.want(412, up)
}

func TestExpectContinueIsAnsweredBeforeAuth(t *testing.T) {
	s := newSite(t, nil)
	c, err := net.Dial("tcp", s.p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /images HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q %v", line, err)
	}
	r.ReadString('\n')
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 401") {
		t.Fatalf("%q %v", line, err)
	}
}

func TestConfigurationsItCannotServeAreRefused(t *testing.T) {
	for want, conf := range map[string]map[string]any{
		"databaseType": {"databaseType": "moray"}, "config.manta": {"storageTypes": []string{"manta", "local"}}, `storage type "dcls"`: {"storageTypes": []string{"dcls"}},
		"mode": {"mode": "dc"}, "loopback": {"address": "0.0.0.0"}, "default channel": {"channels": []map[string]any{{"name": "a", "default": true}, {"name": "b", "default": true}}},
	} {
		s := &site{t: t, root: t.TempDir(), log: &lockedBuffer{}}
		s.configure(conf)
		_, err := Start(Config{Root: s.root})
		var exit *ExitError
		if e, ok := err.(*ExitError); ok {
			exit = e
		}
		if exit == nil || exit.Status != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", conf, err)
		}
	}
	if _, err := Start(Config{Root: t.TempDir()}); err == nil {
		t.Error("no configuration: started")
	}
	s := newSite(t, nil)
	_, port, _ := net.SplitHostPort(s.p.Addr())
	s.write("etc/imgapi.config.json", `{"port":`+port+`}`)
	if _, err := Start(s.cfg); err == nil || err.(*ExitError).Status != 1 {
		t.Errorf("port in use: %v", err)
	}
}

func TestInterruptFinishesRequestsAndKillCutsThem(t *testing.T) {
	for _, kill := range []bool{false, true} {
		s := newSite(t, nil)
		u := s.active("a", "content")
		if _, err := s.faults.Add(fault.Fault{Kind: fault.Latency, Service: Service, Delay: fault.Duration(300 * time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			_, err := s.try(get("/images/" + u))
			got <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if kill {
			s.p.Kill()
		} else {
			s.p.Interrupt(t.Context())
		}
		if err := <-got; (err != nil) != kill {
			t.Errorf("kill %v: request ended with %v", kill, err)
		}
		if st := s.p.Exit().Status; st != map[bool]int{true: 143, false: 1}[kill] {
			t.Errorf("exit status %d", st)
		}
	}
}

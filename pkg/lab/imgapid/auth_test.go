package imgapid

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestSignatures(t *testing.T) {
	s := newSite(t, nil)
	now := time.Now().UTC()
	date := now.Format(http.TimeFormat)
	good := sign(testKey(), "alice", "rsa-sha256", "date: "+date)
	try := func(auth string, headers ...string) answer {
		h := map[string]string{"Authorization": auth, "Date": date}
		for i := 0; i < len(headers); i += 2 {
			h[headers[i]] = headers[i+1]
		}
		return s.do(request{method: "GET", path: "/state", unsigned: true, header: h})
	}
	old := now.Add(-10 * time.Minute).Format(http.TimeFormat)
	line := "GET /state HTTP/1.1"
	requestLine := strings.Replace(sign(testKey(), "alice", "rsa-sha256", "date: "+date+"\n"+line), `headers="date"`, `headers="date request-line"`, 1)
	for name, c := range map[string]struct {
		a    answer
		want int
	}{
		"good":                     {try(good), 200},
		"sha1":                     {try(sign(testKey(), "alice", "rsa-sha1", "date: "+date)), 200},
		"upper-case algorithm":     {try(strings.Replace(good, "rsa-sha256", "RSA-SHA256", 1)), 200},
		"request-line":             {try(requestLine), 200},
		"x-date":                   {try(strings.Replace(sign(testKey(), "alice", "rsa-sha256", "x-date: "+old), `headers="date"`, `headers="x-date"`, 1), "X-Date", old), 401},
		"x-date in time":           {try(strings.Replace(sign(testKey(), "alice", "rsa-sha256", "x-date: "+date), `headers="date"`, `headers="x-date"`, 1), "X-Date", date), 200},
		"old date":                 {try(sign(testKey(), "alice", "rsa-sha256", "date: "+old), "Date", old), 401},
		"unparsable date":          {try(sign(testKey(), "alice", "rsa-sha256", "date: someday"), "Date", "someday"), 200},
		"another user":             {try(strings.Replace(good, "alice", "bob", 1)), 401},
		"path as key id":           {try(strings.Replace(good, "alice", "/alice/keys/aa:bb", 1)), 401},
		"lower-case scheme":        {try("s" + good[1:]), 401},
		"space after comma":        {try(strings.Replace(good, `",algorithm`, `", algorithm`, 1)), 401},
		"(request-target)":         {try(strings.Replace(good, `headers="date"`, `headers="date (request-target)"`, 1)), 401},
		"rsa-sha512":               {try(strings.Replace(good, "rsa-sha256", "rsa-sha512", 1)), 401},
		"hmac":                     {try(strings.Replace(good, "rsa-sha256", "hmac-sha256", 1)), 401},
		"ecdsa":                    {try(strings.Replace(good, "rsa-sha256", "ecdsa-sha256", 1)), 401},
		"date not signed":          {try(strings.Replace(good, `headers="date"`, `headers="host"`, 1)), 401},
		"damaged signature":        {try(strings.Replace(good, `signature="`, `signature="AAAA`, 1)), 401},
		"nothing":                  {s.do(get("/state")), 401},
		"replayed on another path": {s.do(request{method: "GET", path: "/images?state=all", unsigned: true, header: map[string]string{"Authorization": good, "Date": date}}), 200},
		"bad on ping":              {s.do(request{method: "GET", path: "/ping", unsigned: true, header: map[string]string{"Authorization": "Basic x"}}), 401},
		"bad on a file":            {s.do(request{method: "GET", path: "/images/" + owner + "/file", unsigned: true, header: map[string]string{"Authorization": "Basic x"}}), 404},
	} {
		if c.a.status != c.want {
			t.Errorf("%s: %d, want %d: %s", name, c.a.status, c.want, c.a.body)
		}
		if c.a.status == 401 && (c.a.code() != "UnauthorizedError" || c.a.h.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %s %v", name, c.a.body, c.a.h)
		}
	}
}

func TestAuthTypeNoneOpensWritesAndHidesTheUser(t *testing.T) {
	s := newSite(t, map[string]any{"authType": "none"})
	u := s.create("a", "")
	a := s.want(200, request{method: "GET", path: "/images?state=all", header: map[string]string{"Authorization": "garbage"}})
	if len(a.list(t)) != 0 {
		t.Error("lists must stay active-only")
	}
	s.want(401, get("/images/"+u+"?inclAdminFields=true"))
	s.want(204, request{method: "DELETE", path: "/images/" + u, unsigned: true})
}

func TestKeysAreReadAtStartAndOnReload(t *testing.T) {
	s := newSite(t, nil)
	pub, err := ssh.NewPublicKey(testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	line := string(ssh.MarshalAuthorizedKey(pub))
	as := func(user string) int {
		date := time.Now().UTC().Format(http.TimeFormat)
		return s.do(request{method: "GET", path: "/state", unsigned: true, header: map[string]string{
			"Date": date, "Authorization": sign(testKey(), user, "rsa-sha256", "date: "+date)}}).status
	}
	s.write("etc/authkeys/local/a.b.keys", line)
	s.write("etc/authkeys/manta/carol.keys", line)
	s.write("etc/authkeys/local/dave.keys", `from="10.0.0.1" `+line)
	s.write("etc/authkeys/local/.erin.keys", line)
	if as("a.b") != 401 {
		t.Error("seen without reload")
	}
	s.want(405, signedGet("/authkeys/reload"))
	if a := s.want(200, post("/authkeys/reload", "")); string(a.body) != "{}" {
		t.Errorf("%s", a.body)
	}
	waitFor(t, "the reload", func() bool { return as("a.b") == 200 })
	for user, want := range map[string]int{"carol": 401 /* no manta section, no such directory */, "alice": 200, "dave": 401, ".erin": 401} {
		if got := as(user); got != want {
			t.Errorf("%s: %d, want %d", user, got, want)
		}
	}
	// one directory spoils the load, silently
	if err := os.Mkdir(s.data("etc/authkeys/local/zz.keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.data("etc/authkeys/local/a.b.keys")); err != nil {
		t.Fatal(err)
	}
	s.want(200, post("/authkeys/reload", ""))
	time.Sleep(50 * time.Millisecond)
	if as("a.b") != 200 {
		t.Error("old keys must stay when the load fails")
	}
}

func FuzzSignatureHeader(f *testing.F) {
	f.Add(`Signature keyId="alice",algorithm="rsa-sha256",headers="date",signature="aGk="`)
	f.Add(`Signature keyId="",algorithm="x`)
	f.Add("Signature ,=\"\"")
	f.Add(strings.Repeat(`a="b",`, 50))
	f.Fuzz(func(t *testing.T, header string) {
		s, err := parseSignature(header, "date")
		if err != nil {
			return
		}
		if s.keyID == "" || s.value == "" || len(s.headers) == 0 {
			t.Errorf("%q: accepted as %+v", header, s)
		}
		again, err := parseSignature(fmt.Sprintf(`Signature keyId="%s",algorithm="%s",headers="%s",signature="%s"`, s.keyID, s.algorithm, strings.Join(s.headers, " "), s.value), "date")
		if err != nil || again.keyID != s.keyID || again.value != s.value {
			t.Errorf("%q: %+v reads back as %+v, %v", header, s, again, err)
		}
	})
}

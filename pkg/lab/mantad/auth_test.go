package mantad

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// signed sends one GET with a hand-made Authorization header.
func (l *lab) signed(path, date, authorization string, lines ...string) answer {
	l.t.Helper()
	all := append([]string{"GET " + path + " HTTP/1.1", "Host: " + l.plain, "Date: " + date, "Authorization: " + authorization}, lines...)
	return l.raw("GET", strings.Join(all, "\r\n")+"\r\n\r\n")
}

func now() string { return time.Now().UTC().Format(http.TimeFormat) }

func TestEveryKindOfKeyIsVerified(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		kind string
		algs []string
	}{
		{"rsa", []string{"rsa-sha1", "rsa-sha256", "rsa-sha512", "RSA-SHA256"}},
		{"ecdsa", []string{"ecdsa-sha256", "ecdsa-sha512"}},
		{"ed25519", []string{"ed25519-sha512"}},
	} {
		k := newSigner(t, c.kind)
		fp, err := l.s.AddKey(owner, "", k.public)
		if err != nil || fp != k.fp {
			t.Fatal(fp, err)
		}
		for _, alg := range c.algs {
			date := now()
			sig := k.sign(t, strings.ToLower(alg), "date: "+date)
			h := fmt.Sprintf(`Signature keyId="/%s/keys/%s",algorithm="%s",headers="date",signature="%s"`, owner, k.fp, alg, sig)
			if a := l.signed("/admin/stor", date, h); a.status != 200 {
				t.Errorf("%s: %d %s", alg, a.status, a.body)
			}
			later := time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)
			if a := l.signed("/admin/stor", later, h); a.status != 403 || a.code() != "InvalidSignature" {
				t.Errorf("%s over another date: %d %s", alg, a.status, a.body)
			}
		}
	}
}

func TestTheRequestTargetMayBeSigned(t *testing.T) {
	l := newLab(t)
	date := now()
	sig := l.key.sign(t, l.key.alg, "(request-target): get /admin/stor?limit=1\ndate: "+date)
	h := fmt.Sprintf(`Signature keyId="/admin/keys/%s",algorithm="rsa-sha256",headers="(request-target) date",signature="%s"`, l.key.fp, sig)
	if a := l.signed("/admin/stor?limit=1", date, h); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := l.signed("/admin/stor?limit=2", date, h); a.status != 403 || a.code() != "InvalidSignature" {
		t.Errorf("another target: %d %s", a.status, a.body)
	}
}

func TestCredentialsThatAreWrongAreRefusedAsTheServiceDoes(t *testing.T) {
	l := newLab(t)
	if err := l.s.SetAccount(Account{Login: "blocked", Blocked: true}); err != nil {
		t.Fatal(err)
	}
	date := now()
	ok := l.key.authorization(t, owner, date)
	sig := func(keyID, alg string) string {
		return fmt.Sprintf(`Signature keyId="%s",algorithm="%s",headers="date",signature="%s"`, keyID, alg, l.key.sign(t, "rsa-sha256", "date: "+date))
	}
	stranger := newSigner(t, "ed25519")
	rows := []struct {
		name, authz string
		status      int
		code        string
	}{
		{"right", ok, 200, ""},
		{"signature without headers parameter", strings.Replace(ok, `headers="date",`, "", 1), 200, ""},
		{"basic", "Basic abc", 403, "AuthorizationSchemeNotAllowed"},
		{"one word", "Signature", 400, "InvalidHeader"},
		{"space after a comma", strings.Replace(ok, `",a`, `", a`, 1), 400, "InvalidHeader"},
		{"no keyId", strings.Replace(ok, "keyId", "keyIx", 1), 400, "InvalidHeader"},
		{"header not in the request", strings.Replace(ok, `headers="date"`, `headers="date x-none"`, 1), 400, "InvalidHeader"},
		{"date not signed", strings.Replace(ok, `headers="date"`, `headers="host"`, 1), 400, "InvalidHeader"},
		{"unknown algorithm", sig("/admin/keys/"+l.key.fp, "rsa-md5"), 400, "InvalidHeader"},
		{"algorithm the service does not take", sig("/admin/keys/"+l.key.fp, "hmac-sha256"), 401, "InvalidAlgorithm"},
		{"algorithm of another kind", sig("/admin/keys/"+l.key.fp, "ecdsa-sha256"), 403, "InvalidSignature"},
		{"key id without keys", sig("/admin/key/"+l.key.fp, "rsa-sha256"), 403, "InvalidKeyId"},
		{"bare fingerprint", sig(l.key.fp, "rsa-sha256"), 403, "InvalidKeyId"},
		{"unknown key", stranger.authorization(t, owner, date), 403, "KeyDoesNotExist"},
		{"unknown account", l.key.authorization(t, "nobody", date), 403, "AccountDoesNotExist"},
		{"unknown sub-user", sig("/admin/bob/keys/"+l.key.fp, "rsa-sha256"), 403, "UserDoesNotExist"},
		{"blocked account", l.key.authorization(t, "blocked", date), 403, "AccountBlocked"},
		{"not base64", strings.Replace(ok, `signature="`, `signature="!`, 1), 403, "InvalidSignature"},
	}
	for _, r := range rows {
		if a := l.signed("/admin/stor", date, r.authz); a.status != r.status || a.code() != r.code {
			t.Errorf("%s: got %d %q, want %d %q: %s", r.name, a.status, a.code(), r.status, r.code, a.body)
		}
	}
	if a := l.raw("GET", "GET /admin/stor HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {}\r\n\r\n"); a.status != 401 || a.code() != "AuthorizationRequired" {
		t.Errorf("token without signature: %d %s", a.status, a.body)
	}
	if a := l.raw("HEAD", "HEAD /admin/stor HTTP/1.1\r\nHost: x\r\n\r\n"); a.status != 403 || a.body != "" || a.header.Get("Content-Type") != "" {
		t.Errorf("head: %d %q %v", a.status, a.body, a.header)
	}
}

func TestTheClockMayBeOffByFiveMinutes(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		off    time.Duration
		format string
		status int
		code   string
	}{
		{0, time.RFC1123, 200, ""}, // UTC instead of GMT
		{290 * time.Second, http.TimeFormat, 200, ""},
		{-290 * time.Second, http.TimeFormat, 200, ""},
		{310 * time.Second, http.TimeFormat, 400, "InvalidHeader"},
		{-310 * time.Second, http.TimeFormat, 400, "InvalidHeader"},
		{-700 * time.Second, http.TimeFormat, 400, "RequestExpired"},
		{0, "yesterday", 400, "InvalidHeader"},
	} {
		date := time.Now().Add(c.off).UTC().Format(c.format)
		if a := l.signed("/admin/stor", date, l.key.authorization(t, owner, date)); a.status != c.status || a.code() != c.code {
			t.Errorf("%v %q: got %d %s", c.off, date, a.status, a.body)
		}
	}
}

func TestTheServersClockIsTheConfiguredOne(t *testing.T) {
	at := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	l := newLab(t, func(c *Config) { c.Clock = func() time.Time { return at } })
	date := at.Format(http.TimeFormat)
	a := l.signed("/admin/stor", date, l.key.authorization(t, owner, date))
	if a.status != 200 || a.header.Get("Date") != date {
		t.Errorf("%d %v", a.status, a.header)
	}
}

func TestANewKeyIsKnownToOneFrontEndAfterTheOther(t *testing.T) {
	start := time.Now()
	at := start
	l := newLab(t, func(c *Config) { c.KeyDelay = time.Minute; c.Clock = func() time.Time { return at } })
	count := func() (ok int) {
		for range 30 {
			date := at.UTC().Format(http.TimeFormat)
			switch a := l.signed("/admin/stor", date, l.key.authorization(t, owner, date)); {
			case a.status == 200:
				ok++
			case a.status != 403 || a.code() != "KeyDoesNotExist":
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		return ok
	}
	for _, c := range []struct {
		after time.Duration
		ok    int
	}{{0, 0}, {25 * time.Second, 10}, {45 * time.Second, 20}, {61 * time.Second, 30}} {
		at = start.Add(c.after)
		if got := count(); got != c.ok {
			t.Errorf("after %v: %d of 30 accepted, want %d", c.after, got, c.ok)
		}
	}
}

func TestAKeyThatWasRemovedStopsWorking(t *testing.T) {
	l := newLab(t)
	date := now()
	h := l.key.authorization(t, owner, date)
	if a := l.signed("/admin/stor", date, h); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if ok, err := l.s.RemoveKey(owner, "", l.key.fp); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if a := l.signed("/admin/stor", date, h); a.status != 403 || a.code() != "KeyDoesNotExist" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSubUsersNeedARole(t *testing.T) {
	l := newLab(t)
	k := newSigner(t, "ecdsa")
	if _, err := l.s.AddKey(owner, "bob", k.public); err != nil {
		t.Fatal(err)
	}
	get := func(lines ...string) answer {
		date := now()
		h := fmt.Sprintf(`Signature keyId="/admin/bob/keys/%s",algorithm="ecdsa-sha256",headers="date",signature="%s"`, k.fp, k.sign(t, k.alg, "date: "+date))
		return l.signed("/admin/stor", date, h, lines...)
	}
	if a := get(); a.status != 403 || a.code() != "AuthorizationFailed" || !strings.Contains(a.body, "admin/bob") {
		t.Errorf("without a role: %d %s", a.status, a.body)
	}
	if err := l.s.AddUser(owner, "bob", "backup"); err != nil {
		t.Fatal(err)
	}
	for role, status := range map[string]int{"": 200, "Role: backup": 200, "Role: *": 200, "Role: none": 409} {
		var lines []string
		if role != "" {
			lines = append(lines, role)
		}
		if a := get(lines...); a.status != status {
			t.Errorf("%s: %d %s", role, a.status, a.body)
		}
	}
}

func TestOperatorsReachEveryAccount(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Accounts = []Account{{Login: owner, Operator: true}, {Login: "other"}} })
	if a := l.do("GET", "/other/stor"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSignedURLsWork(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/stor/a%20b", "hello")
	get := func(expires time.Time) answer {
		q := url.Values{"algorithm": {"RSA-SHA256"}, "expires": {fmt.Sprint(expires.Unix())}, "keyId": {"/admin/keys/" + l.key.fp}}
		pairs := []string{
			"algorithm=RSA-SHA256", "expires=" + q.Get("expires"), "keyId=" + strings.ReplaceAll(url.QueryEscape(q.Get("keyId")), "+", "%20"),
		}
		text := "GET\n" + l.plain + "\n/admin/stor/a%20b\n" + strings.Join(pairs, "&")
		q.Set("signature", l.key.sign(t, "rsa-sha256", text))
		return l.raw("GET", "GET /admin/stor/a%20b?"+q.Encode()+" HTTP/1.1\r\nHost: "+l.plain+"\r\n\r\n")
	}
	if a := get(time.Now().Add(time.Hour)); a.status != 200 || a.body != "hello" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := get(time.Now().Add(-time.Hour)); a.status != 403 || a.code() != "InvalidQueryStringAuthentication" {
		t.Errorf("expired: %d %s", a.status, a.body)
	}
}

func TestPublicIsReadableWithoutCredentials(t *testing.T) {
	l := newLab(t)
	l.mustPut("/admin/public/o", "hello")
	get := func(method, path string) answer {
		return l.raw(method, method+" "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	}
	if a := get("GET", "/admin/public/o"); a.status != 200 || a.body != "hello" || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	if a := get("GET", "/admin/stor"); a.status != 403 || a.code() != "AuthorizationFailed" {
		t.Errorf("stor: %d %s", a.status, a.body)
	}
	for _, m := range []string{"PUT", "DELETE"} {
		if a := get(m, "/admin/public/o"); a.status != 403 || a.code() != "AuthorizationFailed" {
			t.Errorf("%s: %d %s", m, a.status, a.body)
		}
	}
}

func FuzzAuthorizationHeader(f *testing.F) {
	l := newLab(f)
	date := now()
	f.Add(l.key.authorization(f, owner, date))
	f.Add(`Signature keyId="/a/keys/b",algorithm="rsa-sha256",created=123,headers="(created) date",signature="x"`)
	f.Add(`Signature keyId="a`)
	f.Add("Signature =,")
	f.Fuzz(func(t *testing.T, h string) {
		sig, err := parseSignature(h)
		if err != nil {
			return
		}
		if sig.keyID == "" || sig.algorithm == "" || sig.signature == "" {
			t.Fatalf("%q: accepted without %+v", h, sig)
		}
		r, err := http.NewRequest("GET", "http://x/admin/stor", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Date", date)
		c := &call{s: l.s, r: r, target: "/admin/stor"}
		text := sig.signingString(c)
		if strings.Count(text, "\n") < len(sig.names(r.Header))-1 {
			t.Fatalf("%q: signing string %q misses headers", h, text)
		}
		if _, err := l.s.verify(c, sig.algorithm, sig.keyID, sig.signature, text+"!"); err == nil {
			t.Fatalf("%q: a signature over another text held", h)
		}
	})
}

package lab

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	v2IPv4 = proxyV2Signature + "\x21\x11\x00\x0c\x0a\x01\x02\x03\x7f\x00\x00\x01\x30\x39\x01\xbb"
	v2More = proxyV2Signature + "\x21\x11\x00\x0f\x0a\x01\x02\x03\x7f\x00\x00\x01\x30\x39\x01\xbbxyz" // with an extension
	v2Own  = proxyV2Signature + "\x20\x00\x00\x00"
	v2IPv6 = proxyV2Signature + "\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x01\xbb"
)

func TestProxyHeadersNameTheClient(t *testing.T) {
	for head, want := range map[string]string{
		"PROXY TCP4 10.1.2.3 127.0.0.1 12345 443\r\n":  "10.1.2.3:12345",
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n": "[2001:db8::1]:1",
		"PROXY UNKNOWN\r\n":                            "invalid AddrPort",
		"PROXY UNKNOWN what ever\r\n":                  "invalid AddrPort",
		v2IPv4:                                         "10.1.2.3:12345", v2More: "10.1.2.3:12345", v2Own: "invalid AddrPort", v2IPv6: "[2001:db8::1]:12345",
	} {
		r := bufio.NewReader(strings.NewReader(head + "GET /"))
		got, err := readProxyHeader(r)
		rest, _ := io.ReadAll(r)
		if err != nil || got.String() != want || string(rest) != "GET /" {
			t.Errorf("%q: %s %v, left %q", head, got, err, rest)
		}
	}
	for _, head := range []string{"", "GET / HTTP/1.1\r\n", "PROXY\r\n", "PROXY TCP4 10.1.2.3\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP4 10.1.2.3 10.1.2.3 70000 1\r\n",
		"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY UNKNOWN" + strings.Repeat(" x", 100) + "\r\n", "PROXY UNKNOWN\n", proxyV2Signature,
		proxyV2Signature + "\x11\x11\x00\x00", proxyV2Signature + "\x2f\x11\x00\x00", proxyV2Signature + "\x21\x11\x00\x04abcd", v2IPv4[:20]} {
		if got, err := readProxyHeader(bufio.NewReader(strings.NewReader(head))); err == nil {
			t.Errorf("%q: taken as %s", head, got)
		}
	}
}

func TestTheBalancersPortPassesTheClientsAddressOn(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer backend.Close()
	l, err := net.Listen("tcp", loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: newProxy(strings.TrimPrefix(backend.URL, "http://"))}
	go front.Serve(proxyListener{l})
	defer front.Close()
	for head, want := range map[string]string{"PROXY TCP4 10.1.2.3 127.0.0.1 12345 443\r\n": "10.1.2.3", v2IPv6: "2001:db8::1", v2Own: "127.0.0.1", "": ""} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, head+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(c)
		c.Close()
		if ok := strings.HasPrefix(string(b), "HTTP/1.1 200") && strings.HasSuffix(string(b), "\r\n"+want); head != "" && !ok || head == "" && len(b) > 0 {
			t.Errorf("%q: %q %v", head, b, err)
		}
	}
}

func TestALabListensForBalancersToo(t *testing.T) {
	in := up(t, Config{Instances: 1}).State().Instances[0]
	c, err := net.Dial("tcp", loopback(in.ProxyPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "PROXY TCP4 10.1.2.3 127.0.0.1 12345 443\r\nGET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%v %v", res, err)
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 10.1.2.3 127.0.0.1 12345 443\r\n", "PROXY UNKNOWN\r\n", v2IPv4, v2IPv6, v2Own, v2More} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := bufio.NewReader(strings.NewReader(string(b)))
		addr, err := readProxyHeader(whole)
		if err != nil {
			return
		}
		used := len(b) - len(rest(t, whole))
		again, err := readProxyHeader(bufio.NewReader(strings.NewReader(string(b[:used]))))
		if err != nil || again != addr {
			t.Errorf("%q: %s, but its first %d bytes %s %v", b, addr, used, again, err)
		}
	})
}

func rest(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

package imgapid

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func (s *site) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.p.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// silent says whether neither an answer nor the end comes within d.
func silent(c net.Conn, d time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func answered(t *testing.T, c net.Conn, r *bufio.Reader) int {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

func TestTwoLengthsSilenceTheConnectionUntilItsTimeIsOver(t *testing.T) {
	s := newSite(t, nil)
	s.p.Kill()
	s.cfg.Stall = 10 * time.Millisecond // and 240 ms for a socket
	s.start()
	for name, head := range map[string]string{
		"equal lengths":     "Content-Length: 2\r\ncontent-length: 2\r\n",
		"different lengths": "Content-Length: 2\r\nContent-Length: 3\r\n",
		"length and chunks": "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
	} {
		for _, first := range []string{"", "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", "POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{ }\n"} {
			c := s.dial()
			r := bufio.NewReader(c)
			if first != "" {
				write(t, c, first)
				answered(t, c, r)
			}
			start := time.Now()
			write(t, c, "POST /state HTTP/1.1\r\nHost: x\r\n")
			write(t, c, head+"\r\n{}")
			if !silent(c, 120*time.Millisecond) {
				t.Errorf("%s: an answer or the end", name)
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %d %v after %v, want the end", name, n, err, time.Since(start))
			}
		}
	}
	c := s.dial()
	write(t, c, "POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if got := answered(t, c, bufio.NewReader(c)); got != 401 {
		t.Errorf("the control with one length: %d", got)
	}
	s.want(200, request{method: "GET", path: "/images?a=Content-Length:%202", unsigned: true})
}

func TestARefusedSmallBodyKeepsTheConnectionAndALargeOneBlocksItsSender(t *testing.T) {
	s := newSite(t, nil)
	u := s.create("a", "")
	head := "PUT /images/" + u + "/file?compression=none HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
	c := s.dial()
	r := bufio.NewReader(c)
	write(t, c, fmt.Sprintf(head, 1024))
	if got := answered(t, c, r); got != 401 {
		t.Fatalf("%d", got)
	}
	write(t, c, strings.Repeat("x", 1024)+"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := answered(t, c, r); got != 200 {
		t.Errorf("the connection after a small body: %d", got)
	}
	c = s.dial()
	write(t, c, fmt.Sprintf(head, 50<<20))
	if got := answered(t, c, bufio.NewReader(c)); got != 401 {
		t.Fatalf("%d", got)
	}
	_ = c.SetWriteDeadline(time.Now().Add(400 * time.Millisecond))
	n, err := c.Write(make([]byte, 50<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the sender got %d bytes rid of: %v, want it to block", n, err)
	}
	s.p.Kill() // does not wait for it
}

func TestIdleConnectionsCloseAfterFiveSecondsAndUnfinishedHeadsDoNot(t *testing.T) {
	t.Parallel() // six seconds of waiting
	s := newSite(t, nil)
	silentOne, half, idle := s.dial(), s.dial(), s.dial()
	write(t, half, "GET /ping HTTP/1.1\r\nHost")
	write(t, idle, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(idle)
	if got := answered(t, idle, r); got != 200 {
		t.Fatal(got)
	}
	start := time.Now()
	_ = idle.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("idle: %v, want the end", err)
	}
	if d := time.Since(start); d < 4900*time.Millisecond || d > 6*time.Second {
		t.Errorf("idle closed after %v, want 5s", d)
	}
	time.Sleep(500 * time.Millisecond)
	if !silent(silentOne, 50*time.Millisecond) || !silent(half, 50*time.Millisecond) {
		t.Error("a connection without a whole head was closed")
	}
	write(t, half, ": x\r\n\r\n")
	if got := answered(t, half, bufio.NewReader(half)); got != 200 {
		t.Errorf("the rest of the head: %d", got)
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n"), 3)
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"), 7)
	f.Add([]byte("\r\n\r\n\r\n\r\nContent-Length: 99999999999999999999\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step < 1 {
			step = 1
		}
		var whole, parts deafConn
		want := whole.repels(b)
		got := false
		for rest := b; len(rest) > 0 && !got; {
			n := min(step, len(rest))
			got = parts.repels(rest[:n])
			rest = rest[n:]
		}
		if want != got && len(b) < maxHead {
			t.Errorf("%q in steps of %d: %v, at once: %v", b, step, got, want)
		}
	})
}

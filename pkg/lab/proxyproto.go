package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proxyListener takes connections that begin with a PROXY protocol header,
// version 1 or 2, as haproxy's accept-proxy does: one without is closed without a
// word. Source: the protocol's specification (haproxy, proxy-protocol.txt).
type proxyListener struct{ net.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxyConn{Conn: c, r: bufio.NewReader(c)}, nil
}

// proxyConn reads the header when it is first asked for anything, so that a slow
// client keeps nobody else waiting.
type proxyConn struct {
	net.Conn
	r      *bufio.Reader
	once   sync.Once
	client net.Addr
	err    error
}

// headerTime is haproxy's client timeout.
const headerTime = 55 * time.Second

func (c *proxyConn) begin() {
	c.once.Do(func() {
		c.client = c.Conn.RemoteAddr()
		if c.err = c.Conn.SetReadDeadline(time.Now().Add(headerTime)); c.err != nil {
			return
		}
		from, err := readProxyHeader(c.r)
		if err == nil {
			err = c.Conn.SetReadDeadline(time.Time{})
		}
		if err != nil {
			c.err = &net.OpError{Op: "read", Net: "tcp", Err: err} // which is not answered
			return
		}
		if from.IsValid() {
			c.client = net.TCPAddrFromAddrPort(from)
		}
	})
}

// NetConn returns the connection below, as tls.Conn does.
func (c *proxyConn) NetConn() net.Conn { return c.Conn }

func (c *proxyConn) RemoteAddr() net.Addr {
	c.begin()
	return c.client
}

func (c *proxyConn) Read(b []byte) (int, error) {
	if c.begin(); c.err != nil {
		return 0, c.err
	}
	return c.r.Read(b)
}

const (
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	maxProxyV1       = 107 // bytes, with CRLF
)

var errNoProxyHeader = errors.New("no PROXY protocol header")

// readProxyHeader returns the client's address; it is not valid when the sender
// speaks for itself or for a client it does not know.
func readProxyHeader(r *bufio.Reader) (netip.AddrPort, error) {
	first, err := r.Peek(1)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch first[0] {
	case 'P':
		return readProxyV1(r)
	case '\r':
		return readProxyV2(r)
	}
	return netip.AddrPort{}, errNoProxyHeader
}

func readProxyV1(r *bufio.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	line := make([]byte, 0, maxProxyV1)
	for len(line) < maxProxyV1 && (len(line) == 0 || line[len(line)-1] != '\n') {
		b, err := r.ReadByte()
		if err != nil {
			return none, err
		}
		line = append(line, b)
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	f := strings.Split(text, " ")
	if !ok || len(f) < 2 || f[0] != "PROXY" {
		return none, errNoProxyHeader
	}
	if f[1] == "UNKNOWN" {
		return none, nil
	}
	if len(f) != 6 || !slices.Contains([]string{"TCP4", "TCP6"}, f[1]) {
		return none, fmt.Errorf("PROXY protocol header %q: not understood", text)
	}
	addr, err := netip.ParseAddr(f[2])
	port, perr := strconv.ParseUint(f[4], 10, 16)
	if err != nil || perr != nil || addr.Is4() != (f[1] == "TCP4") {
		return none, fmt.Errorf("PROXY protocol header %q: not an address", text)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// readProxyV2 reads the binary form: signature, version and command, family,
// length of the rest, addresses, and extensions nobody looks at.
func readProxyV2(r *bufio.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return none, err
	}
	if string(head[:12]) != proxyV2Signature || head[12]>>4 != 2 {
		return none, errNoProxyHeader
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, rest); err != nil {
		return none, err
	}
	switch command, family := head[12]&0xf, head[13]; {
	case command == 0: // the sender's own check
		return none, nil
	case command != 1:
		return none, fmt.Errorf("PROXY protocol command %d: not known", command)
	case family == 0x11 && len(rest) >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[:4])), binary.BigEndian.Uint16(rest[8:])), nil
	case family == 0x21 && len(rest) >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[:16])), binary.BigEndian.Uint16(rest[32:])), nil
	case family == 0x11 || family == 0x21:
		return none, fmt.Errorf("PROXY protocol header: %d bytes of addresses", len(rest))
	}
	return none, nil // another family: not for us to know
}

package fault

import (
	"io"
	"net"
	"syscall"
)

// Listener applies partition faults to connections: a new one is reset at once,
// an open one at its next use. The port itself stays open, since another process
// could take it meanwhile; a client sees a reset where a firewall would refuse.
func Listener(l net.Listener, s *Set, service, instance string) net.Listener {
	return &listener{Listener: l, set: s, service: service, instance: instance}
}

type listener struct {
	net.Listener
	set               *Set
	service, instance string
}

// Accept waits for the next connection that no fault refuses.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.set.refuses(l.service, l.instance, true) {
			reset(c)
			continue
		}
		return &conn{Conn: c, l: l}, nil
	}
}

type conn struct {
	net.Conn
	l *listener
}

// NetConn returns the connection below, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

func (c *conn) cut() bool {
	if !c.l.set.refuses(c.l.service, c.l.instance, false) {
		return false
	}
	reset(c.Conn)
	return true
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.cut() {
		return 0, syscall.ECONNRESET
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if c.cut() {
		return 0, syscall.ECONNRESET
	}
	return c.Conn.Write(b)
}

// ReadFrom lets a plain connection keep the kernel's copy path.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.cut() {
		return 0, syscall.ECONNRESET
	}
	return io.Copy(c.Conn, r)
}

// reset closes with RST: unsent data is dropped and the peer gets ECONNRESET.
func reset(c net.Conn) {
	if t := tcp(c); t != nil {
		_ = t.SetLinger(0) // a connection that is gone already needs no RST
		_ = t.Close()
		return
	}
	_ = c.Close() // not TCP: a plain close is the nearest there is
}

func tcp(c net.Conn) *net.TCPConn {
	for {
		switch v := c.(type) {
		case *net.TCPConn:
			return v
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

package status

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
)

// makeCert returns a self-signed certificate as the stock setup makes it, and
// the PEM file that haproxy reads.
func makeCert(t *testing.T, from, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "*"}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	// The key may come first: haproxy takes either order.
	err = errors.Join(pem.Encode(&b, &pem.Block{Type: "EC PRIVATE KEY", Bytes: kb}), pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, b.Bytes()
}

// tlsServer makes handshakes with cert and nothing else.
func tlsServer(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); c.Close() }()
		}
	}()
	return "https://" + l.Addr().String()
}

func TestTheServedCertificateIsJudgedByItsDays(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		from, until time.Duration
		want        health.Status
		text        string
	}{
		{-day, 31 * day, health.OK, "31 days left, until 2026-12-23"},
		{-day, 30*day - time.Minute, health.Warning, "29 days left"},
		{-day, 7 * day, health.Warning, "7 days left"},
		{-day, 7*day - time.Minute, health.Fault, "6 days left"},
		{-60 * day, -2 * day, health.Fault, "expired 2 days ago"},
		{day, 90 * day, health.Fault, "not valid before 2026-11-23"},
	} {
		z := newZone(t, 0, "")
		cert, file := makeCert(t, now.Add(c.from), now.Add(c.until))
		z.public.url = tlsServer(t, cert)
		z.write("data/imgapi/etc/cert.pem", string(file), 0)
		more := []string{"CN=*, self-signed", "the same as in"}
		if c.want != health.OK {
			more = append(more, "svcadm restart haproxy", "refuse the image server")
		}
		z.expect("certificate", c.want, c.text, more...)
	}
}

func TestACertificateThatIsOnDiskOnlyMeansAForgottenRestart(t *testing.T) {
	z := newZone(t, 0, "")
	cert, _ := makeCert(t, now.Add(-time.Hour), now.Add(90*24*time.Hour))
	_, other := makeCert(t, now.Add(-time.Hour), now.Add(300*24*time.Hour))
	z.public.url = tlsServer(t, cert)
	z.write("data/imgapi/etc/cert.pem", string(other), 0)
	z.expect("certificate", health.Warning, "haproxy was not restarted", "svcadm restart haproxy", "in "+z.root)
	z.write("data/imgapi/etc/cert.pem", "junk", 0)
	z.expect("certificate", health.OK, "90 days left", "not compared: no certificate in it")
	z.remove("data/imgapi/etc/cert.pem")
	z.expect("certificate", health.OK, "days left", "does not exist: not compared")
}

func TestAnExpiredCertificateIsAFaultEvenWhenThePingFails(t *testing.T) {
	z := newZone(t, 0, "")
	cert, _ := makeCert(t, now.Add(-90*24*time.Hour), now.Add(-time.Hour))
	z.public.url, z.public.err = tlsServer(t, cert), errors.New("503")
	z.expect("https_ping", health.Fault, "does not answer")
	z.expect("certificate", health.Fault, "expired 0 days ago")
}

func TestWithoutAHandshakeThePingIsTheFault(t *testing.T) {
	z := newZone(t, 0, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.public.url, z.public.err = "https://"+l.Addr().String(), errors.New("refused")
	l.Close()
	z.expect("certificate", health.Unknown, "depends on https_ping", "no TLS handshake")
	z.public.err = nil // a ping through, a handshake not: nobody else tells
	if o, _ := z.run().Outcome("certificate"); o.Status != health.Fault {
		t.Errorf("%+v", o)
	}
}

package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
)

// certificate judges the certificate that clients are shown: whether it is good
// for some time, and whether it is the one on disk. Who signed it is not judged:
// a stock instance comes with a self-signed one.
func (r *run) certificate(ctx context.Context) health.Result {
	host, port, ok := r.publicHost()
	if !ok {
		return health.NAf("%s is not https", r.Public.URL())
	}
	leaf, err := servedCertificate(ctx, host, port)
	if err != nil {
		return health.Result{Status: health.Unknown, Summary: fmt.Sprintf("no TLS handshake with %s: %v", net.JoinHostPort(host, port), err)}
	}
	left := leaf.NotAfter.Sub(r.Now())
	res := health.Okf("%s, until %s", daysLeft(left), stamp(leaf.NotAfter))
	switch {
	case leaf.NotBefore.After(r.Now()):
		res = health.Faultf("not valid before %s", stamp(leaf.NotBefore))
	case left < CertFault:
		res = health.Faultf("%s, until %s", daysLeft(left), stamp(leaf.NotAfter))
	case left < CertWarn:
		res = health.Warnf("%s, until %s", daysLeft(left), stamp(leaf.NotAfter))
	}
	res.Own = true // it expires, whoever answers behind it
	if res.Status != health.OK {
		res = res.Because("clients that verify certificates refuse the image server once it has expired").
			Do("put a new certificate and its key into "+r.Instance.CertPath(), "svcadm restart haproxy")
	}
	res = res.Saw("served at %s: %s", net.JoinHostPort(host, port), describe(leaf))
	return r.compareCertificate(res, leaf)
}

// compareCertificate adds what the file on disk says: haproxy reads it only when
// it starts.
func (r *run) compareCertificate(res health.Result, leaf *x509.Certificate) health.Result {
	path := r.Instance.CertPath()
	onDisk, err := readCertificate(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return res.Saw("%s does not exist: not compared", path)
	case err != nil:
		return res.Saw("%s: not compared: %v", path, err)
	case bytes.Equal(onDisk.Raw, leaf.Raw):
		return res.Saw("the same as in %s", path)
	}
	res = res.Saw("in %s: %s", path, describe(onDisk))
	if res.Status != health.OK {
		return res.Saw("the file holds another certificate: haproxy was not restarted since it was put there")
	}
	w := health.Warnf("the one served is not the one in %s: haproxy was not restarted", path)
	w.Evidence = res.Evidence
	return w.Because("clients see the old certificate until haproxy is restarted; if that one was replaced because its key leaked, they still trust it").
		Do("svcadm restart haproxy")
}

func daysLeft(left time.Duration) string {
	if left < 0 {
		return fmt.Sprintf("expired %d days ago", int(-left/(24*time.Hour)))
	}
	return fmt.Sprintf("%d days left", int(left/(24*time.Hour)))
}

// describe names a certificate: subject, fingerprint, and whether it signed
// itself.
func describe(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	by := "issued by " + c.Issuer.String()
	if bytes.Equal(c.RawIssuer, c.RawSubject) {
		by = "self-signed"
	}
	names := c.Subject.String()
	if len(c.DNSNames) > 0 {
		names += " for " + strings.Join(c.DNSNames[:min(len(c.DNSNames), 5)], " ")
	}
	return fmt.Sprintf("%s, %s, sha256 %x", names, by, sum[:8])
}

// servedCertificate makes a handshake and returns the leaf. Nothing is verified
// and nothing sent.
func servedCertificate(ctx context.Context, host, port string) (*x509.Certificate, error) {
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if net.ParseIP(host) == nil {
		conf.ServerName = host
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil, errors.New("the server sent no certificate")
	}
	return certs[0], nil
}

// maxCertFile bounds what is read of a certificate file.
const maxCertFile = 1 << 20

// readCertificate returns the first certificate of a PEM file, which is the one
// haproxy serves. The key beside it is not looked at.
func readCertificate(path string) (*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rest, err := io.ReadAll(io.LimitReader(f, maxCertFile))
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("no certificate in it")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

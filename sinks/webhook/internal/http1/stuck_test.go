package http1

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A connection with TLS whose peer reads nothing ends with the request: a goodbye would wait for the socket once more.
func TestStuckTLSEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		peer := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true})
		shaken := make(chan error, 1)
		go func() { shaken <- peer.Handshake() }()
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			c := tls.Client(NewRecords(ours), &tls.Config{InsecureSkipVerify: true})
			return c, c.HandshakeContext(ctx)
		}
		p := New(&url.URL{Scheme: "https", Host: "host"}, "test", 1, dial)
		head, began := append(slices.Clone(p.Start), "Content-Length: 0\r\n\r\n"...), time.Now()
		if _, err := p.RoundTrip(t.Context(), Request{Head: &head}, began.Add(time.Second)); !IsTimeout(err) {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v, want the second until the deadline", took)
		}
		if err := <-shaken; err != nil {
			t.Error(err)
		}
	})
}

package env

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

// overTLS returns a server that speaks HTTP/1.1, or HTTP/2 as well.
func overTLS(h http.Handler, certificate tls.Certificate, h2 bool) *http.Server {
	s := &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(h2)
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250}
	return s
}

// selfSigned makes a certificate for this machine alone.
func selfSigned() (c tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Header returns that of the first request since Fresh.
func (h *Hook) Header(ctx context.Context) (header http.Header, err error) {
	text, err := h.ask(ctx, "header", "", "")
	if err == nil {
		err = json.Unmarshal(text, &header)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for a request's header: %w", err)
	}
	return header, nil
}

func (r *receiver) firstHeader(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(r.header.Load()) // whoever asked went away
}

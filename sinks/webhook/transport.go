package webhook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

const (
	connectTimeout  = 5 * time.Second
	idleTimeout     = 90 * time.Second
	maxHeaderLength = 64 << 10
)

// connectError marks that no connection came about: the destination as a whole is to blame, not this message.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// newTransport returns a pool of connections for one destination. Ending life ends the dials that are under way, which
// http.Transport otherwise leaves running behind a request that was cancelled.
func newTransport(life context.Context, cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	conf := cfg.TLS
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	secure := &tls.Dialer{NetDialer: dialer, Config: conf}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            connect(life, dialer.DialContext),
		DialTLSContext:         connect(life, secure.DialContext),
		Protocols:              protocols,
		MaxConnsPerHost:        cfg.Lanes,
		MaxIdleConns:           cfg.Lanes,
		MaxIdleConnsPerHost:    cfg.Lanes,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderLength,
		DisableCompression:     true,
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// connect bounds a dial, handshake included, and marks its errors.
func connect(life context.Context, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, connectError{err}
		}
		return conn, nil
	}
}

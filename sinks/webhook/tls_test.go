package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// mutual is a receiver that asks for client certificates of the authority.
func mutual(clients *authority, server tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool()}
}

func TestTLSOutcomes(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	f := newFiles(t)
	put := func(name string, a *authority, changes ...func(*x509.Certificate)) (cert, key string) {
		c, k := a.issue("client", changes...)
		return f.put(name+".crt", c), f.put(name+".key", k)
	}
	ca, otherCA := f.put("ca.pem", ours.pem), f.put("other-ca.pem", theirs.pem)
	cert, key := put("client", ours)
	oldCert, oldKey := put("expired", ours, expired)
	strangerCert, strangerKey := put("stranger", theirs)
	trusting := TLSOptions{CA: ca}
	withCert := TLSOptions{CA: ca, Cert: cert, Key: key}
	only := func(o TLSOptions, change func(*TLSOptions)) TLSOptions { change(&o); return o }
	good := ours.pair("server")
	for name, c := range map[string]struct {
		server *tls.Config
		o      TLSOptions
		want   string // of the reason; empty: accepted
	}{
		"own authority":           {&tls.Config{Certificates: []tls.Certificate{good}}, trusting, ""},
		"client certificate":      {mutual(ours, good), withCert, ""},
		"TLS 1.3 only":            {&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS13}, only(trusting, func(o *TLSOptions) { o.MinVersion = "1.3" }), ""},
		"TLS 1.2 only":            {only12(&tls.Config{Certificates: []tls.Certificate{good}}), trusting, ""},
		"server name":             {&tls.Config{Certificates: []tls.Certificate{ours.pair("server", dnsOnly)}}, only(trusting, func(o *TLSOptions) { o.ServerName = "server.test" }), ""},
		"verification is skipped": {&tls.Config{Certificates: []tls.Certificate{theirs.pair("server", expired)}}, TLSOptions{InsecureSkipVerify: true}, ""},

		"no authority":            {&tls.Config{Certificates: []tls.Certificate{good}}, TLSOptions{}, "tls.ca"},
		"wrong authority":         {&tls.Config{Certificates: []tls.Certificate{good}}, TLSOptions{CA: otherCA}, "tls.ca"},
		"expired":                 {&tls.Config{Certificates: []tls.Certificate{ours.pair("server", expired)}}, trusting, "has to be renewed"},
		"not for this host":       {&tls.Config{Certificates: []tls.Certificate{ours.pair("server", dnsOnly)}}, trusting, "tls.server_name"},
		"not for this name":       {&tls.Config{Certificates: []tls.Certificate{good}}, only(trusting, func(o *TLSOptions) { o.ServerName = "other.test" }), "other.test"},
		"TLS 1.1 only":            {&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, trusting, "has to be upgraded"},
		"TLS 1.2 and we want 1.3": {only12(&tls.Config{Certificates: []tls.Certificate{good}}), only(trusting, func(o *TLSOptions) { o.MinVersion = "1.3" }), "has to be upgraded"},

		"no client certificate":           {mutual(ours, good), trusting, "set tls.cert and tls.key"},
		"no client certificate, TLS 1.2":  {only12(mutual(ours, good)), trusting, "client certificate"},
		"expired client certificate":      {mutual(ours, good), only(withCert, func(o *TLSOptions) { o.Cert, o.Key = oldCert, oldKey }), "client certificate"},
		"expired client certificate, 1.2": {only12(mutual(ours, good)), only(withCert, func(o *TLSOptions) { o.Cert, o.Key = oldCert, oldKey }), "client certificate"},
		"client of a stranger":            {mutual(ours, good), only(withCert, func(o *TLSOptions) { o.Cert, o.Key = strangerCert, strangerKey }), "check tls.cert"},
		"client of a stranger, TLS 1.2":   {only12(mutual(ours, good)), only(withCert, func(o *TLSOptions) { o.Cert, o.Key = strangerCert, strangerKey }), "check tls.cert"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serveTLS(t, c.server, new(receiver))
			for _, h2 := range []bool{true, false} {
				s := open(t, Config{URL: "https://joe:secret@" + srv.Listener.Addr().String() + "/secret?token=secret", Options: Options{TLS: c.o, HTTP2: new(h2)}})
				err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
				if c.want == "" {
					sinktest.WantKinds(t, []error{err}, sinks.KindAccepted)
					continue
				}
				// With TLS 1.3 the alert that tells of our certificate can be lost.
				told := !strings.Contains(name, "client") || strings.HasSuffix(name, "1.2")
				if kind, _ := sinks.Classify(err); !kind.Unavailable() || told && kind != sinks.KindMisconfigured {
					t.Errorf("HTTP/2 %v: the outcome is %v", h2, kind)
				}
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("HTTP/2 %v: the reason is %v, want %q in it, and no secret", h2, err, c.want)
				}
			}
		})
	}
}

func only12(c *tls.Config) *tls.Config { c.MaxVersion = tls.VersionTLS12; return c }
func dnsOnly(c *x509.Certificate)      { c.IPAddresses = nil }

func TestTLSOptions(t *testing.T) {
	a := newAuthority(t, "ours")
	f := newFiles(t)
	certPEM, keyPEM := a.issue("client")
	_, otherKey := a.issue("other")
	cert, key := f.put("crt", certPEM), f.put("key", keyPEM)
	missing := f.path("missing")
	for want, o := range map[string]TLSOptions{
		`tls.ca is "ca.pem": must be an absolute path`:                  {CA: "ca.pem"},
		`tls.cert is set and tls.key is not`:                            {Cert: cert},
		`tls.key is set and tls.cert is not`:                            {Key: key},
		`tls.min_version is "1.1": must be 1.2 or 1.3`:                  {MinVersion: "1.1"},
		`tls.ca: stat ` + missing:                                       {CA: missing},
		`tls.cert: stat ` + missing:                                     {Cert: missing, Key: key},
		`tls.key: stat ` + missing:                                      {Cert: cert, Key: missing},
		`tls.ca: ` + f.dir + ` is not a regular file`:                   {CA: f.dir},
		`holds no certificate in PEM form`:                              {CA: f.put("empty", []byte("secret"))},
		`cannot be used: tls: private key does not match`:               {Cert: cert, Key: f.put("other", otherKey)},
		`cannot be used: tls: failed to find any PEM data in key input`: {Cert: cert, Key: f.put("nokey", []byte("secret"))},
		`is longer than`:                                                {CA: f.put("long", slices.Repeat([]byte("secret"), 1<<20/6+1))},
	} {
		_, err := New(Config{URL: "https://localhost", Options: Options{TLS: o}})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
		// Who only checks a subscription that another machine opens can tell that the file is not here.
		if strings.Contains(want, "stat") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v is not fs.ErrNotExist", err)
		}
	}
}

func TestWarnings(t *testing.T) {
	a := newAuthority(t, "ours")
	f := newFiles(t)
	certPEM, keyPEM := a.issue("client", expired)
	var text strings.Builder
	open(t, Config{URL: "https://localhost/secret", Log: slog.New(slog.NewTextHandler(&text, nil)), Options: Options{TLS: TLSOptions{
		InsecureSkipVerify: true, Cert: f.put("crt", certPEM), Key: f.put("key", keyPEM),
	}}})
	for _, want := range []string{"level=WARN msg=\"tls.insecure_skip_verify is set", "the client certificate has expired"} {
		if !strings.Contains(text.String(), want) || strings.Contains(text.String(), "/secret") {
			t.Errorf("logged %s, want %q", text.String(), want)
		}
	}
}

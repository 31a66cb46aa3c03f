// Package tlsfiles makes TLS settings of files that a subscription names: whom to trust, and who we are. They are read at each connect.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// maxFile bounds a file of certificates, in bytes.
const maxFile = 1 << 20

// Options name the files, which are PEM.
type Options struct {
	CA         string `json:"ca,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	// MinVersion is 1.2 (default) or 1.3.
	MinVersion string `json:"min_version,omitempty"`
}

// Check says what is wrong with the options, without a look at the files.
func (o Options) Check() error {
	for name, path := range map[string]string{"tls.ca": o.CA, "tls.cert": o.Cert, "tls.key": o.Key} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s is %q: must be an absolute path", name, path)
		}
	}
	switch v := o.MinVersion; {
	case v != "" && v != "1.2" && v != "1.3":
		return sinks.Unknown(fmt.Errorf("tls.min_version is %q: must be 1.2 or 1.3", v))
	case (o.Cert == "") != (o.Key == ""):
		return errors.New("tls.cert and tls.key: a client certificate takes both files")
	}
	return nil
}

// Config reads the files as they are now, for connections to a host.
func (o Options) Config(host string, from *secret.Store) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if o.CA != "" {
		text, err := from.File(o.CA, maxFile)
		if c.RootCAs = x509.NewCertPool(); err == nil && !c.RootCAs.AppendCertsFromPEM(text) {
			err = errors.New("it holds no certificate in PEM form")
		}
		if err != nil {
			return nil, from.Hide("tls.ca", o.CA, err)
		}
	}
	if o.Cert == "" {
		return c, nil
	}
	cert, err := from.File(o.Cert, maxFile)
	if err != nil {
		return nil, from.Hide("tls.cert", o.Cert, err)
	}
	key, err := from.File(o.Key, maxFile)
	if err != nil {
		return nil, from.Hide("tls.key", o.Key, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, from.Hide("tls.cert", o.Cert, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

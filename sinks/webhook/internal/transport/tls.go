package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// maxPEM bounds a file of certificates. The bundle of all public authorities has a quarter of it.
const maxPEM = 1 << 20

// TLSOptions say whom to trust and who we are. Files are PEM and are read again when they change.
type TLSOptions struct {
	CA         string `json:"ca,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	// MinVersion is 1.2 (default) or 1.3.
	MinVersion string `json:"min_version,omitempty"`
	// InsecureSkipVerify accepts any certificate: anybody in between can read and forge.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`
}

// pemText is the text of the files that TLSOptions name, as it was last read.
type pemText struct{ ca, cert, key []byte }

func (p pemText) equal(q pemText) bool {
	return bytes.Equal(p.ca, q.ca) && bytes.Equal(p.cert, q.cert) && bytes.Equal(p.key, q.key)
}

// Check finds what is wrong without looking at the files.
func (o TLSOptions) Check() error {
	for name, path := range map[string]string{"tls.ca": o.CA, "tls.cert": o.Cert, "tls.key": o.Key} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s is %q: must be an absolute path", name, path)
		}
	}
	switch {
	case o.Cert != "" && o.Key == "":
		return errors.New("tls.cert is set and tls.key is not: a client certificate needs its private key")
	case o.Key != "" && o.Cert == "":
		return errors.New("tls.key is set and tls.cert is not: the key needs its client certificate")
	case o.MinVersion != "" && o.MinVersion != "1.2" && o.MinVersion != "1.3":
		return sinks.Unknown(fmt.Errorf("tls.min_version is %q: must be 1.2 or 1.3", o.MinVersion))
	}
	return nil
}

func (o TLSOptions) files() bool { return o.CA != "" || o.Cert != "" }

// read reads the files anew.
func (o TLSOptions) read(from *secret.Store) (p pemText, err error) {
	for _, f := range []struct {
		setting, path string
		to            *[]byte
	}{{"tls.ca", o.CA, &p.ca}, {"tls.cert", o.Cert, &p.cert}, {"tls.key", o.Key, &p.key}} {
		if f.path == "" {
			continue
		}
		if *f.to, err = from.File(f.path, maxPEM); err != nil {
			return p, from.Hide(f.setting, f.path, err)
		}
	}
	return p, nil
}

// config makes a configuration for the destination. Its errors show nothing of the files but their paths.
func (o TLSOptions) config(from *secret.Store, base *tls.Config, p pemText) (*tls.Config, error) {
	conf := new(tls.Config)
	if base != nil {
		conf = base.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	if o.MinVersion == "1.3" {
		conf.MinVersion = tls.VersionTLS13
	}
	if o.ServerName != "" {
		conf.ServerName = o.ServerName
	}
	if o.InsecureSkipVerify {
		conf.InsecureSkipVerify = true
	}
	if o.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(p.ca) {
			return nil, from.Hide("tls.ca", o.CA, fmt.Errorf("%s holds no certificate in PEM form", o.CA))
		}
	}
	if o.Cert == "" {
		return conf, nil
	}
	pair, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, from.Hide("tls.cert", o.Cert, fmt.Errorf("%s and tls.key %s cannot be used: %w", o.Cert, o.Key, err))
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// expired returns when the client certificate ran out, if it did.
func (p pemText) expired(now time.Time) (time.Time, bool) {
	pair, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil || pair.Leaf == nil {
		return time.Time{}, false
	}
	return pair.Leaf.NotAfter, now.After(pair.Leaf.NotAfter)
}

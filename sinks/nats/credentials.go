package natssink

import (
	"crypto/tls"
	"strings"

	"github.com/nats-io/nats.go"
)

// credentials makes the client read its files at each connect: through Secrets, which knows which it may read.
func (c Config) credentials() nats.Option {
	return func(o *nats.Options) error {
		if c.CredsFile != "" {
			o.UserJWT = func() (string, error) {
				as, err := c.user()
				if err != nil {
					return "", err
				}
				return as.UserJWT()
			}
			o.SignatureCB = func(nonce []byte) ([]byte, error) {
				as, err := c.user()
				if err != nil {
					return nil, err
				}
				return as.SignatureCB(nonce)
			}
		}
		if c.CAFile == "" && c.CertFile == "" {
			return nil
		}
		o.Secure = true
		if o.TLSConfig == nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if c.CAFile != "" {
			o.RootCAsCB = c.authorities
		}
		if c.CertFile != "" {
			o.TLSCertCB = c.certificate
		}
		return nil
	}
}

// user reads the file of credentials.
func (c Config) user() (as nats.Options, err error) {
	text, err := c.Secrets.File(c.CredsFile, maxFile)
	if err != nil {
		return as, c.Secrets.Hide("NATS creds", c.CredsFile, err)
	}
	return as, nats.UserCredentialBytes(text)(&as)
}

// learn makes user and password of the addresses known, so that no text shows them.
func (c Config) learn() {
	for _, server := range c.Servers {
		u, err := parseServer(server)
		if err != nil || u.User == nil {
			continue
		}
		if password, ok := u.User.Password(); ok {
			c.Secrets.Learn(password)
		} else {
			c.Secrets.Learn(u.User.Username()) // a token
		}
	}
}

// confides says whether servers are told something that is for them alone.
func (c Config) confides() bool {
	for _, server := range c.Servers {
		if u, err := parseServer(server); err == nil && u.User != nil {
			return true
		}
	}
	return c.CredsFile != ""
}

// secure says whether nothing is said before a server has proved its name.
func (c Config) secure() bool {
	for _, server := range c.Servers {
		if !strings.HasPrefix(server, "tls://") {
			return c.CAFile != "" || c.CertFile != ""
		}
	}
	return true
}

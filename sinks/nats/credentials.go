package natssink

import (
	"crypto/tls"
	"strings"

	"github.com/nats-io/nats.go"
)

// trust makes the client read the files of TLS at each connect: through Secrets, which knows which it may read.
func (c Config) trust() nats.Option {
	return func(o *nats.Options) error {
		if !c.usesTLS() {
			return nil
		}
		o.Secure = true
		if o.TLSConfig == nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if c.TLS13 {
			o.TLSConfig.MinVersion = tls.VersionTLS13
		}
		o.TLSConfig.ServerName = c.ServerName
		if c.CAFile != "" {
			o.RootCAsCB = c.authorities
		}
		if c.CertFile != "" {
			o.TLSCertCB = c.certificate
		}
		return nil
	}
}

// usesTLS says whether settings of TLS are given, so that no connection does without.
func (c Config) usesTLS() bool {
	return c.CAFile != "" || c.CertFile != "" || c.ServerName != "" || c.TLS13
}

// learn makes user and password of the addresses known, so that no text shows them. It says whether there are any.
func (c Config) learn() (found bool) {
	for _, server := range c.Servers {
		u, err := parseServer(server)
		if err != nil || u.User == nil {
			continue
		}
		found = true
		if password, ok := u.User.Password(); ok {
			c.Secrets.Learn(password)
		} else {
			c.Secrets.Learn(u.User.Username()) // a token
		}
	}
	return found
}

// userInfo says whether the addresses name a user or a token.
func (c Config) userInfo() bool {
	for _, server := range c.Servers {
		if u, err := parseServer(server); err == nil && u.User != nil {
			return true
		}
	}
	return false
}

// confides says whether servers are told something that is for them alone.
func (c Config) confides() bool { return c.userInfo() || c.Auth != Auth{} }

// secure says whether nothing is said before a server has proved its name.
func (c Config) secure() bool {
	for _, server := range c.Servers {
		if !strings.HasPrefix(server, "tls://") {
			return c.usesTLS()
		}
	}
	return true
}

package natssink

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/postrider/postrider/internal/secret"
)

// Auth says who we are to the servers: by references (env:NAME, file:/path), one kind of them. Files are read again when they change;
// what they hold is used at the next connect.
type Auth struct {
	// User is a name, or a reference to one; Password is a reference to its password.
	User, Password string
	// Token is a reference to a token, NKey to the seed of a user's nkey, Creds to a user's JWT and seed.
	Token, NKey, Creds string
}

func (a Auth) validate(inURL bool) error {
	var kinds []string
	for _, kind := range []struct {
		name  string
		given bool
	}{{"user info in the URL", inURL}, {"user", a.User != ""}, {"token", a.Token != ""}, {"nkey", a.NKey != ""}, {"creds", a.Creds != ""}} {
		if kind.given {
			kinds = append(kinds, kind.name)
		}
	}
	switch {
	case len(kinds) > 1:
		return fmt.Errorf("%s are both given: a connection has room for one of them", strings.Join(kinds[:2], " and "))
	case (a.User == "") != (a.Password == ""):
		return errors.New("user and password: it takes both")
	}
	for setting, ref := range map[string]string{"password": a.Password, "token": a.Token, "nkey": a.NKey, "creds": a.Creds} {
		if ref == "" {
			continue
		}
		if _, err := secret.ParseReference(setting, ref); err != nil {
			return err
		}
	}
	if secret.IsReference(a.User) {
		_, err := secret.ParseReference("user", a.User)
		return err
	}
	return nil
}

// identity is what Auth refers to.
type identity struct {
	user, password, token *secret.Watched[string] // nil for none
	name                  string                  // of the user, if it is no reference
	nkey                  *secret.Watched[nkey]
	creds                 *secret.Watched[credentials]
}

// nkey signs with a seed. Its functions keep the seed from being printed.
type nkey struct {
	public string
	sign   nats.SignatureHandler
}

// credentials are a user's JWT, and what signs with the seed.
type credentials struct {
	jwt  nats.UserJWTHandler
	sign nats.SignatureHandler
}

// read follows the references. Errors name the setting and show no secret.
func (a Auth) read(log *slog.Logger, from *secret.Store) (id *identity, err error) {
	id = &identity{name: a.User}
	text := func(to **secret.Watched[string], setting, ref string) {
		if err == nil && ref != "" {
			*to, err = secret.Watch(log, from, setting, ref, oneLine)
		}
	}
	if secret.IsReference(a.User) {
		text(&id.user, "user", a.User)
	}
	text(&id.password, "password", a.Password)
	text(&id.token, "token", a.Token)
	if err == nil && a.NKey != "" {
		id.nkey, err = secret.Watch(log, from, "nkey", a.NKey, parseNKey)
	}
	if err == nil && a.Creds != "" {
		id.creds, err = secret.Watch(log, from, "creds", a.Creds, parseCredentials)
	}
	return id, err
}

func oneLine(text secret.Text) (string, error) {
	value := strings.TrimSpace(text.Reveal())
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return "", errors.New("must hold one line")
	}
	return value, nil
}

func parseNKey(text secret.Text) (nkey, error) {
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(text.Reveal())))
	if err != nil {
		return nkey{}, errors.New("must hold the seed of a user's nkey, which begins with SU")
	}
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nkey{}, errors.New("must hold the seed of a user's nkey, which begins with SU")
	}
	return nkey{public, pair.Sign}, nil
}

func parseCredentials(text secret.Text) (credentials, error) {
	var as nats.Options
	if err := nats.UserCredentialBytes([]byte(text.Reveal()))(&as); err != nil {
		return credentials{}, errors.New("must hold a user's JWT and seed, as nsc writes them")
	}
	if jwt, err := as.UserJWT(); err != nil || !strings.HasPrefix(jwt, "eyJ") { // else the library takes any text for a JWT, and sends it
		return credentials{}, errors.New("must hold a user's JWT and seed, as nsc writes them")
	}
	if _, err := as.SignatureCB([]byte("nonce")); err != nil {
		return credentials{}, errors.New("must hold a user's JWT and seed, as nsc writes them")
	}
	return credentials{as.UserJWT, as.SignatureCB}, nil
}

// option makes the client ask for what is valid at each connect. Stale is set when that takes another connection: the library
// cannot change the public key of one.
func (id *identity) option(stale *atomic.Bool) nats.Option {
	return func(o *nats.Options) error {
		switch {
		case id.password != nil:
			o.UserInfo = func() (string, string) { return id.userName(), id.password.Get(time.Now()) }
		case id.token != nil:
			o.TokenHandler = func() string { return id.token.Get(time.Now()) }
		case id.nkey != nil:
			public := id.nkey.Get(time.Now()).public
			o.Nkey, o.SignatureCB = public, func(nonce []byte) ([]byte, error) {
				key := id.nkey.Get(time.Now())
				if key.public != public {
					stale.Store(true)
					return nil, errors.New("the nkey has changed: a new connection is made with it")
				}
				return key.sign(nonce)
			}
		case id.creds != nil:
			o.UserJWT = func() (string, error) { return id.creds.Get(time.Now()).jwt() }
			o.SignatureCB = func(nonce []byte) ([]byte, error) { return id.creds.Get(time.Now()).sign(nonce) }
		}
		return nil
	}
}

func (id *identity) userName() string {
	if id.user != nil {
		return id.user.Get(time.Now())
	}
	return id.name
}

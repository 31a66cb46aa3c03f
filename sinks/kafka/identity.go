package kafkasink

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/postrider/postrider/internal/secret"
)

// mechanisms are the ways in which we say who we are.
var mechanisms = map[string]func(*identity) sasl.Mechanism{
	"PLAIN": func(id *identity) sasl.Mechanism {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			return plain.Auth{User: id.userName(), Pass: id.password.Get(time.Now())}, nil
		})
	},
	"SCRAM-SHA-256": func(id *identity) sasl.Mechanism { return scram.Sha256(id.scram) },
	"SCRAM-SHA-512": func(id *identity) sasl.Mechanism { return scram.Sha512(id.scram) },
}

// identity is what the options refer to, as it is at this moment: it is asked for at each connect.
type identity struct {
	user, password *secret.Watched[string] // nil for none
	name           string                  // of the user, if it is no reference
}

// identify follows the references. Errors name the setting and show no secret.
func (o *Options) identify(log *slog.Logger, from *secret.Store) (*identity, error) {
	if o.Mechanism == "" {
		return nil, nil
	}
	id := &identity{name: o.User}
	var err error
	if secret.IsReference(o.User) {
		if id.user, err = secret.Watch(log, from, "user", o.User, oneLine); err != nil {
			return nil, err
		}
	}
	id.password, err = secret.Watch(log, from, "password", o.Password, oneLine)
	return id, err
}

func (id *identity) userName() string {
	if id.user != nil {
		return id.user.Get(time.Now())
	}
	return id.name
}

func (id *identity) scram(context.Context) (scram.Auth, error) {
	return scram.Auth{User: id.userName(), Pass: id.password.Get(time.Now())}, nil
}

func oneLine(text secret.Text) (string, error) {
	value := strings.TrimSpace(text.Reveal())
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return "", errors.New("must hold one line")
	}
	return value, nil
}

package webhook

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// fixedHeader is a header that the subscription sets for every request. The value is a function since a reference may
// change, and since nothing can print what is in a function.
type fixedHeader struct {
	name  string // canonical
	value func(now time.Time) []string
}

func literal(name, value string) fixedHeader {
	values := []string{value}
	return fixedHeader{name, func(time.Time) []string { return values }}
}

func referred(log *slog.Logger, from *secret.Store, setting, name, ref string, parse func(secret.Text) (string, error)) (fixedHeader, error) {
	w, err := secret.Watch(log, from, setting, ref, func(text secret.Text) ([]string, error) {
		value, err := parse(text)
		return []string{value}, err
	})
	if err != nil {
		return fixedHeader{}, err
	}
	return fixedHeader{name, w.Get}, nil
}

// fixedHeaders reads authentication and static headers, and the references in them. User info is that of the URL.
func fixedHeaders(log *slog.Logger, from *secret.Store, o *Options, user *url.Userinfo) ([]fixedHeader, error) {
	var all []fixedHeader
	add := func(h fixedHeader, err error) error {
		all = append(all, h)
		return err
	}
	if user != nil {
		password, _ := user.Password()
		plain := user.Username() + ":" + password
		from.Learn(plain, password)
		all = append(all, literal("Authorization", basic(plain)))
	}
	if o.Basic != "" {
		parse := func(text secret.Text) (string, error) {
			_, password, _ := strings.Cut(text.Reveal(), ":")
			from.Learn(password)
			return parseBasic(text)
		}
		if err := add(referred(log, from, "basic", "Authorization", o.Basic, parse)); err != nil {
			return nil, err
		}
	}
	if o.Bearer != "" {
		if err := add(referred(log, from, "bearer", "Authorization", o.Bearer, parseBearer)); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		value, canonical := o.Headers[name], http.CanonicalHeaderKey(name)
		if !secret.IsReference(value) {
			all = append(all, literal(canonical, value))
		} else if err := add(referred(log, from, headerSetting(name), canonical, value, parseHeader)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func headerSetting(name string) string { return fmt.Sprintf("headers[%q]", name) }

func basic(plain string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(plain)) }

func parseBasic(text secret.Text) (string, error) {
	user, _, ok := strings.Cut(text.Reveal(), ":")
	switch {
	case !ok:
		return "", errors.New("must hold user:password")
	case strings.ContainsFunc(text.Reveal(), isControl):
		return "", errors.New("must hold user:password in one line")
	case user == "":
		return "", errors.New("must hold user:password, and the user is empty")
	}
	return basic(text.Reveal()), nil
}

func parseBearer(text secret.Text) (string, error) {
	token := strings.TrimSpace(text.Reveal())
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("must hold a token: visible ASCII characters without blanks")
	}
	return "Bearer " + token, nil
}

func parseHeader(text secret.Text) (string, error) {
	value := strings.TrimSpace(text.Reveal())
	if strings.ContainsFunc(value, isControl) {
		return "", errors.New("must hold one line without control characters")
	}
	return value, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7F }

// authorizes says whether a request's Authorization header is given.
func (o *Options) authorizes() bool {
	for name := range o.Headers {
		if strings.EqualFold(name, "authorization") {
			return true
		}
	}
	return o.Basic != "" || o.Bearer != ""
}

// checkAuth finds settings that contradict each other. User info in the URL is checked with the rest of Config.
func (o *Options) checkAuth() error {
	for setting, ref := range map[string]string{"basic": o.Basic, "bearer": o.Bearer} {
		if ref == "" {
			continue
		}
		if _, err := secret.ParseReference(setting, ref); err != nil {
			return err
		}
	}
	if o.Basic != "" && o.Bearer != "" {
		return errors.New("basic and bearer are both given: a request has room for one of them")
	}
	return nil
}

// checkHeaders finds static headers that cannot be sent, or that look like secrets.
func (o *Options) checkHeaders() error {
	text, err := json.Marshal(o.Headers)
	if err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	if _, err := (&sinks.Message{Headers: text}).TextHeaders(); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		lower := strings.ToLower(name)
		switch value := o.Headers[name]; {
		case isReserved(lower) || lower == "content-type":
			return fmt.Errorf("%s is reserved: it is set by Postrider or by HTTP itself", headerSetting(name))
		case checkName(name) != nil:
			return fmt.Errorf("headers: %w", checkName(name))
		case lower == "authorization" && (o.Basic != "" || o.Bearer != ""):
			return fmt.Errorf("%s is given, and so is basic or bearer: a request has room for one of them", headerSetting(name))
		case secret.IsReference(value):
			if _, err := secret.ParseReference(headerSetting(name), value); err != nil {
				return err
			}
		case namesSecret(lower):
			return fmt.Errorf("%s holds a secret by its name: its value must be a reference, env:NAME or file:/path", headerSetting(name))
		}
	}
	return nil
}

// namesSecret errs on the side of caution: a reference always works.
func namesSecret(name string) bool {
	for _, part := range []string{"auth", "cookie", "token", "secret", "password", "api-key", "apikey", "access-key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

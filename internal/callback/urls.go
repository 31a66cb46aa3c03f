package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// minCallbackSecret is in bytes.
const minCallbackSecret = 32

// Config says where callbacks come to, and what signs their URLs.
type Config struct {
	// BaseURL is what the URLs begin with: http or https, a host, perhaps a path. Empty means that none are made: those
	// that another process has made can still be read.
	BaseURL string
	// Secrets are references (env:NAME, file:/path) to secrets of at least 32 bytes. A reference may lead to several,
	// separated by blanks or line ends; lines that begin with # are comments. The first of all signs, each verifies.
	Secrets []string
	// Log is told of secrets that were replaced, or that cannot be read any more. Nil means nobody.
	Log *slog.Logger
}

// URLs makes and reads the URLs by which receivers say what came of an attempt at an asynchronous delivery:
//
//	<base>/callbacks/<subscription>/<id>/<token>/<signature>
//
// The signature is HMAC-SHA256 of the attempt, in base64url without padding. Who knows such a URL may settle that attempt
// and nothing else. Methods may be called by several goroutines at once.
type URLs struct {
	base, path string // without a slash at the end; path is that of base
	secrets    []*secret.Watched[[]callbackSigner]
}

// callbackSigner returns the signature of an attempt. It is a function so that nothing can print its key.
type callbackSigner func(subscription string, id, token int64) string

// Validate finds what is wrong as far as that can be said without following references. Errors show no secret.
func (c Config) Validate() error {
	if _, _, err := c.parseBase(); err != nil {
		return err
	}
	for i, ref := range c.Secrets {
		if _, err := secret.ParseReference(callbackSetting(i), ref); err != nil {
			return err
		}
	}
	return nil
}

// NewURLs follows the references. Errors name the reference and show no secret.
func NewURLs(c Config) (*URLs, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	base, path, err := c.parseBase()
	if err != nil {
		return nil, err
	}
	if len(c.Secrets) == 0 {
		return nil, errors.New("callbacks need a secret that signs their URLs")
	}
	all := &URLs{base: base, path: path}
	for i, ref := range c.Secrets {
		w, err := secret.Watch(c.Log, (*secret.Store)(nil).Own(), callbackSetting(i), ref, parseCallbackSecrets)
		if err != nil {
			return nil, err
		}
		all.secrets = append(all.secrets, w)
	}
	return all, nil
}

func callbackSetting(i int) string { return fmt.Sprintf("secret %d", i+1) }

// parseBase returns the URL, and its path, without a slash at the end.
func (c Config) parseBase() (base, path string, err error) {
	if c.BaseURL == "" {
		return "", "", nil
	}
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("it cannot be parsed: %w", sinks.WithoutURL(c.BaseURL, err))
	case u.Scheme != "http" && u.Scheme != "https":
		return "", "", fmt.Errorf("it has the scheme %q: it must be http or https", u.Scheme)
	case u.Hostname() == "":
		return "", "", errors.New("it names no host: it must look like https://host/path")
	case u.User != nil:
		return "", "", errors.New("it has user info: receivers are told by the signature in the URL")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", "", errors.New("it has a query or a fragment: a path must be the last of it")
	}
	if err := sinks.CheckHost(u); err != nil {
		return "", "", fmt.Errorf("it %w", err)
	}
	path = strings.TrimRight(u.EscapedPath(), "/")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if segment == "." || segment == ".." || segment == "" && path != "" {
			return "", "", errors.New("its path has a segment that is empty or dots, which some proxies take away")
		}
	}
	return u.Scheme + "://" + u.Host + path, path, nil
}

func parseCallbackSecrets(text secret.Text) ([]callbackSigner, error) {
	var all []callbackSigner
	for line := range strings.Lines(text.Reveal()) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, word := range strings.Fields(line) {
			if len(word) < minCallbackSecret {
				return nil, fmt.Errorf("it holds a secret of %d bytes: at least %d are needed", len(word), minCallbackSecret)
			}
			all = append(all, newCallbackSigner([]byte(word)))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no secret")
	}
	return all, nil
}

func newCallbackSigner(key []byte) callbackSigner {
	return func(subscription string, id, token int64) string {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "postrider-callback\n%s\n%d\n%d", subscription, id, token)
		return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
}

// URL returns the URL for an attempt, to which an action is to be added; empty without a base URL.
func (c *URLs) URL(subscription string, id, token int64) string {
	if c.base == "" {
		return ""
	}
	sign := c.secrets[0].Get(time.Now())[0]
	return fmt.Sprintf("%s/callbacks/%s/%d/%d/%s", c.base, url.PathEscape(subscription), id, token, sign(subscription, id, token))
}

// verifies compares with the text that a secret would have given, in constant time: no two texts mean one signature.
func (c *URLs) verifies(cb Attempt, signature string) bool {
	now, ok := time.Now(), false
	for _, w := range c.secrets {
		for _, sign := range w.Get(now) {
			if hmac.Equal([]byte(signature), []byte(sign(cb.Subscription, cb.ID, cb.Token))) {
				ok = true
			}
		}
	}
	return ok
}

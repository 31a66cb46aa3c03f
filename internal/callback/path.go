package callback

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// Attempt is what the path of a callback's URL names.
type Attempt struct {
	Subscription string
	ID, Token    int64
	// Action is what was added to the URL. It is not signed.
	Action string
}

// Errors of URLs.Read.
var (
	// ErrNoCallback says that a path does not look like that of a callback.
	ErrNoCallback = errors.New("not the path of a callback")
	// ErrForged says that the signature is not ours, or not for this attempt.
	ErrForged = errors.New("the signature does not verify")
)

// Read takes the escaped path of a request apart, with or without the path of the base URL, which proxies may strip. It
// returns ErrNoCallback or ErrForged; with the latter, the Callback holds what the path claims and nobody has signed.
func (c *URLs) Read(path string) (Attempt, error) {
	parts, ok := splitCallback(path, c.path)
	if !ok {
		return Attempt{}, ErrNoCallback
	}
	cb, ok := parts.parse()
	if !ok || !c.verifies(cb, parts.signature) {
		return cb, ErrForged
	}
	return cb, nil
}

// callbackParts are segments of a path, as they came.
type callbackParts struct{ subscription, id, token, signature, action string }

// splitCallback splits <base>/callbacks/<subscription>/<id>/<token>/<signature>/<action>, where base may be missing.
func splitCallback(path, base string) (callbackParts, bool) {
	segments := strings.Split(path, "/")
	if len(segments) < 7 {
		return callbackParts{}, false
	}
	n := len(segments) - 6
	before, s := strings.Join(segments[:n], "/"), segments[n:]
	if s[0] != "callbacks" || before != "" && before != base {
		return callbackParts{}, false
	}
	return callbackParts{s[1], s[2], s[3], s[4], s[5]}, true
}

// parse accepts only what URLs.URL writes: an attempt has one path.
func (p callbackParts) parse() (cb Attempt, ok bool) {
	var whole [3]bool
	var err error
	cb.Action = p.action
	cb.Subscription, err = url.PathUnescape(p.subscription)
	whole[0] = err == nil && url.PathEscape(cb.Subscription) == p.subscription
	cb.ID, whole[1] = parseDecimal(p.id)
	cb.Token, whole[2] = parseDecimal(p.token)
	return cb, whole == [3]bool{true, true, true}
}

func parseDecimal(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == text
}

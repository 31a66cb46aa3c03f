package main

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

const hidden = "xxxxx"

// secretName matches the names of query parameters that carry secrets.
var secretName = regexp.MustCompile(`(?i)token|key|secret|passw|pwd|sig|auth|creds|credential|seed|jwt`)

// secretValue hides password=… in a connection string of keywords.
var secretValue = regexp.MustCompile(`(?i)((?:password|passfile|sslpassword)\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)`)

// redact returns a sink's URL without its userinfo and without the values of parameters that look like secrets.
func redact(sink string) string {
	if sink == "" {
		return ""
	}
	u, err := url.Parse(sink)
	if err != nil {
		return redactText(sink)
	}
	if strings.Contains(u.Opaque, "@") {
		u.Opaque = hidden
	}
	if u.User != nil {
		u.User = url.User(hidden)
	}
	u.RawQuery = redactQuery(u.RawQuery)
	if u.Fragment != "" {
		u.Fragment = hidden
	}
	return u.String()
}

// redactText is for what the parser does not take, such as several hosts, or a password with odd characters: all up to the
// last @ may be userinfo.
func redactText(sink string) string {
	scheme, rest, _ := strings.Cut(sink, "://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = hidden + rest[i:]
	}
	rest, query, ok := strings.Cut(rest, "?")
	if ok {
		rest += "?" + redactQuery(query)
	}
	return scheme + "://" + rest
}

// redactQuery works on the text, so that all else stays as it was written.
func redactQuery(query string) string {
	if query == "" {
		return ""
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, _, ok := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); ok && (err != nil || secretName.MatchString(plain)) {
			parts[i] = name + "=" + hidden
		}
	}
	return strings.Join(parts, "&")
}

// redactDatabase returns a connection string without its password.
func redactDatabase(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil && strings.Contains(text, "://") {
		return redactText(text) // pgx takes some addresses that the standard library does not
	}
	if err == nil && u.Scheme != "" {
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), hidden)
		}
		u.RawQuery = redactQuery(u.RawQuery)
		return u.String()
	}
	if _, err := pgx.ParseConfig(text); err != nil {
		return hidden
	}
	return secretValue.ReplaceAllString(text, "${1}"+hidden)
}

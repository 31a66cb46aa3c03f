package sinks

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// CheckHost says what is wrong with the host and the port of a URL that net/url has taken: it lets through what no name holds, and what
// the next program in the line may read as something else. Its errors show neither user info nor path.
func CheckHost(u *url.URL) error {
	host := u.Hostname()
	switch _, err := netip.ParseAddr(host); {
	case host == "":
		return errors.New("names no host")
	case err == nil: // an address, perhaps with a zone
	case strings.ContainsFunc(host, func(r rune) bool {
		return r <= '~' && r != '-' && r != '.' && r != '_' && !isAlphanumeric(r) || r > '~' && !unicode.IsPrint(r)
	}):
		return fmt.Errorf("has the host %q: a name holds letters, digits, - . and _", host)
	}
	if text := u.Port(); text != "" || strings.HasSuffix(u.Host, ":") {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return fmt.Errorf("has the port %q: it must be a number from 1 to 65535", text)
		}
	}
	return nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// EncodeQuery percent-encodes what a query may not hold as it is, such as a blank, which would end a request's first line. What is
// encoded already stays.
func EncodeQuery(query string) string {
	var b strings.Builder
	for i := range len(query) {
		c := query[i]
		escaped := c == '%' && i+2 < len(query) && isHex(query[i+1]) && isHex(query[i+2])
		if c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 || c == '%' && !escaped {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// WithoutURL takes the URL out of a parser's error. The rest can quote a password that was not escaped.
func WithoutURL(raw string, err error) error {
	if strings.Contains(raw, "@") {
		return errors.New("it has user info in front of the host, in which characters such as / ? # % have to be percent-encoded")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

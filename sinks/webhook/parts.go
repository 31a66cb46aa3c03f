package webhook

import (
	"net/url"
	"strings"
)

// The lengths from which on a part of a URL is taken for a secret, as in addresses that services hand out.
const (
	longSegment = 16
	longValue   = 8
)

// secretParts returns what of a URL nobody should see whom its owner has not told: long segments of its path, and values of its query
// that are long or have a secret's name.
func secretParts(u *url.URL) []string {
	var parts []string
	for segment := range strings.SplitSeq(u.Path, "/") {
		if len(segment) >= longSegment {
			parts = append(parts, segment)
		}
	}
	for name, values := range u.Query() {
		for _, value := range values {
			if len(value) >= longValue || namesSecret(strings.ToLower(name)) {
				parts = append(parts, value)
			}
		}
	}
	return parts
}

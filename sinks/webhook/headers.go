package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// framing holds the headers that belong to the connection and not to the message, in lower case.
var framing = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "keep-alive": true,
	"proxy-connection": true, "proxy-authorization": true, "proxy-authenticate": true, "te": true, "trailer": true,
	"upgrade": true, "expect": true, "user-agent": true,
}

// headers returns what goes out with one attempt. An error means that the message cannot be sent as it is.
func (s *Sink) headers(d *sinks.Delivery, now time.Time) (http.Header, error) {
	own, err := d.TextHeaders()
	if err != nil {
		return nil, err
	}
	h := make(http.Header, 9+len(own))
	h["User-Agent"] = s.userAgent
	h["Content-Type"] = contentType(d.JSON)
	for name, value := range own {
		if s.reserved(name) {
			return nil, fmt.Errorf("header %q is reserved: it is set by Postrider or by HTTP itself, rename it", name)
		}
		h.Set(name, value)
	}
	set := func(name, value string) { h[name] = []string{sinks.EncodeHeader(value)} }
	set("Webhook-Id", d.ID)
	set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	set("Postrider-Topic", d.Topic)
	if d.Key != "" {
		set("Postrider-Key", d.Key)
	}
	set("Postrider-Attempt", strconv.Itoa(d.Attempt))
	set("Postrider-Subscription", d.Subscription)
	if s.authorization != nil {
		h["Authorization"] = s.authorization
	}
	return h, nil
}

func (s *Sink) reserved(name string) bool {
	name = strings.ToLower(name)
	return framing[name] || strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "postrider-") ||
		name == "authorization" && s.authorization != nil
}

// Shared by all requests, which do not change them.
var (
	typeJSON  = []string{"application/json"}
	typeBytes = []string{"application/octet-stream"}
)

func contentType(json bool) []string {
	if json {
		return typeJSON
	}
	return typeBytes
}

package bare

import (
	"crypto/tls"
	"net/http"
)

// HTTP is how a pipe with net/http posts.
type HTTP struct {
	// URL takes the requests. A certificate is not verified.
	URL string
	// Header is sent with each request. What stands under Webhook-Id is replaced by a message's id.
	Header map[string]string
	// HTTP2 takes HTTP/2, if the receiver offers it.
	HTTP2 bool
}

const idHeader = "Webhook-Id"

// http is what was asked for, or what needs no saying.
func (o order) http() HTTP {
	if o.HTTP != nil {
		return *o.HTTP
	}
	return HTTP{URL: o.To.Webhook, Header: map[string]string{"Content-Type": "application/json", idHeader: ""}}
}

func (h HTTP) transport() *http.Transport {
	return &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true, ForceAttemptHTTP2: h.HTTP2,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
}

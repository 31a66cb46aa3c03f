package amazontest

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks/sinktest"
)

// Received reads messages as a consumer does.
func Received(t testing.TB, list []Message) (got []sinktest.Received) {
	t.Helper()
	for _, m := range list {
		a := m.Attributes
		r := sinktest.Received{MessageID: a["message_id"], Topic: plain(t, a["topic"]), Key: plain(t, a["key"]), ContentType: a["content_type"], Payload: []byte(m.Body), Headers: map[string]string{}}
		switch a["content_encoding"] {
		case "empty":
			r.Payload = nil
		case "base64":
			b, err := base64.StdEncoding.DecodeString(m.Body)
			if err != nil {
				t.Error(err)
			}
			r.Payload = b
		}
		if a["headers"] != "" {
			var own map[string]string
			if err := json.Unmarshal([]byte(a["headers"]), &own); err != nil {
				t.Error(err)
			}
			for name, value := range own {
				r.Headers[strings.ToLower(name)] = value
			}
		}
		got = append(got, r)
	}
	return got
}

func plain(t testing.TB, text string) string {
	t.Helper()
	got, err := url.PathUnescape(text)
	if err != nil {
		t.Error(err)
	}
	return got
}

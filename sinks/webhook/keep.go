package webhook

import (
	"bytes"
	"io"
	"net/http"

	"github.com/postrider/postrider/sinks"
)

// result is what an accepting answer says came of the message, if that is to be kept; nil if the answer is too long for that, breaks off, or is
// no JSON. Whatever it is, the message is delivered. The body can be read as if nothing had been read of it.
func (s *Sink) result(res *http.Response) []byte {
	if !s.options.KeepResult {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, sinks.MaxResult+1))
	rest := res.Body
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(text), rest), rest}
	if err != nil || len(text) > sinks.MaxResult {
		return nil
	}
	text = []byte(s.secrets.Redact(string(text)))
	if sinks.CheckResult(text) != nil {
		return nil
	}
	return text
}

package webhook

import (
	"io"
	"net/http"
	"net/url"
)

// maxReceipts bounds Options.Receipts, in bytes.
const maxReceipts = 64 << 10

// Receipt is what a destination said when it accepted a request.
type Receipt struct {
	// MessageID is the request's webhook-id: the message id, or one made for a batch.
	MessageID string
	// Attempt counts from 1; 0 for a batch.
	Attempt int
	Status  int
	// ContentType is the answer's, empty if it has none.
	ContentType string
	// Body is the start of the answer's body, of at most Options.Receipts bytes.
	Body []byte
}

// receipt hands the start of an accepting answer to Config.Receipt. What is left of the body can still be read.
func (s *Sink) receipt(r *request, res *http.Response) {
	if s.options.Receipts == 0 || s.keep == nil {
		return
	}
	body := make([]byte, s.options.Receipts+s.secrets.Longest())
	// A body that breaks off takes nothing from the status.
	n, _ := io.ReadFull(res.Body, body)
	id, err := url.PathUnescape(r.id)
	if err != nil {
		id = r.id
	}
	s.keep(Receipt{MessageID: id, Attempt: r.attempt, Status: res.StatusCode, ContentType: res.Header.Get("Content-Type"), Body: s.secrets.RedactStart(body[:n], s.options.Receipts)})
}

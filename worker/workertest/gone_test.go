package workertest

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/outbox"
)

// A caller that is gone gets no job.
func TestCallerIsGone(t *testing.T) {
	s := NewServer(t)
	id := s.Add("mail", outbox.Message{Topic: "mail.a", Payload: 1})
	ctx, gone := context.WithCancel(t.Context())
	gone()
	const body = `{"worker": "w", "incarnation": "1", "wait": "1s", "from": [{"subscription": "mail", "max": 1}]}`
	s.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/api/v1/jobs/take", strings.NewReader(body)))
	if is := s.State(id).State; is != pending {
		t.Errorf("its state is %s, want %s", is, pending)
	}
	answer := httptest.NewRecorder()
	s.handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/jobs/take", strings.NewReader(body)))
	if is := s.State(id).State; is != isOut {
		t.Errorf("its state is %s, want %s: %s", is, isOut, answer.Body)
	}
}

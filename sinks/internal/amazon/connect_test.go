package amazon

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// reused is a body as the SDK has it: nobody may read it any more once it is closed, and here that is before anybody has found its end.
type reused struct {
	text   *bytes.Reader
	closed chan struct{}
	once   sync.Once
}

// Read waits at the end until the body is closed.
func (r *reused) Read(p []byte) (int, error) {
	if r.text.Len() > 0 {
		return r.text.Read(p)
	}
	<-r.closed
	return 0, errors.New("closed")
}

// Close lets readers go on.
func (r *reused) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// The SDK closes the request's body as soon as an answer begins: the rest of the answer comes all the same.
func TestAnswersOutliveTheirRequest(t *testing.T) {
	rest := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != "Message=1" {
			t.Errorf("the server got %q: %v", got, err)
		}
		if _, err := io.WriteString(w, "begun"); err != nil {
			t.Error(err)
		}
		w.(http.Flusher).Flush()
		select {
		case <-rest:
		case <-r.Context().Done(): // the connection has ended
		}
		_, _ = io.WriteString(w, "ended") // to nobody, if so
	}))
	defer server.Close()
	c, err := new(Options).Connect(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 50 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, &reused{text: bytes.NewReader([]byte("Message=1")), closed: make(chan struct{})})
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = int64(len("Message=1"))
		answer, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := request.Body.Close(); err != nil {
			t.Fatal(err)
		}
		begun := make([]byte, len("begun"))
		if _, err := io.ReadFull(answer.Body, begun); err != nil {
			t.Fatal(err)
		}
		rest <- struct{}{}
		if got, err := io.ReadAll(answer.Body); err != nil || string(got) != "ended" {
			t.Fatalf("the rest of the answer is %q: %v", got, err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

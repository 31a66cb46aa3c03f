package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	apiPath = "/api/v1/jobs/"
	// answerTime is how long a relay may take for an answer, beside what it was allowed to wait.
	answerTime = 15 * time.Second
	// beatTime is how long it may take for that of a beat, if beats are less frequent: another relay has to hear of the worker in time.
	beatTime  = time.Second
	maxAnswer = 256 << 20
)

// client makes requests to one of several relays, and goes on to the next one when it does not answer.
type client struct {
	http  *http.Client
	urls  []string
	token string        // empty: none
	at    atomic.Uint32 // the relay that answered last, modulo their number
}

func newClient(urls []string, token string) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 8
	transport.DisableCompression = true
	return &client{http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, urls: urls, token: token}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// post makes one request and reads its answer.
func (c *client) post(ctx context.Context, verb string, request any, wait time.Duration) (*answer, error) {
	return c.postWithin(ctx, verb, request, wait+answerTime)
}

// postWithin is post with a time of its own.
func (c *client) postWithin(ctx context.Context, verb string, request any, time time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time, fmt.Errorf("no answer for %v", time))
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	at := c.at.Load()
	got, err := c.exchange(ctx, c.urls[int(at)%len(c.urls)]+apiPath+verb, body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		c.at.CompareAndSwap(at, at+1)
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return got, nil
}

func (c *client) exchange(ctx context.Context, url string, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var text strings.Builder
	text.Grow(int(min(max(res.ContentLength, 0), maxAnswer)))
	if _, err := io.Copy(&text, io.LimitReader(res.Body, maxAnswer)); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, refused(res, []byte(text.String()))
	}
	return readAnswer(text.String())
}

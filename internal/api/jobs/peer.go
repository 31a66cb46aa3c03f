package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/hop"
	"github.com/postrider/postrider/internal/api/problem"
)

const (
	longestHop  = 5 * time.Second // beside what the call may wait
	largestBack = 256 << 20
)

// peer is a relay that a call is passed on to.
type peer struct {
	client      *http.Client
	key         []byte
	incarnation string
	name, url   string
}

// back is what another relay answers.
type back struct {
	Jobs  []json.RawMessage `json:"jobs"`
	Items []answered        `json:"items"`
	Lost  []held            `json:"lost"`
	// Cancel is what was cancelled.
	Cancel []held `json:"cancel"`
}

// ask passes a call on. What is wrong between relays is no fault of the worker's.
func (p *peer) ask(ctx context.Context, verb string, request any, wait time.Duration) (*back, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait+longestHop)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(p.url, "/")+"/api/v1/jobs/"+verb, bytes.NewReader(body))
	if err != nil {
		return nil, p.trouble("its URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(access.RelayHeader, hop.Header(p.key, verb, p.incarnation, body))
	res, err := p.client.Do(req)
	if err != nil {
		return nil, p.trouble("it does not answer")
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, largestBack))
	if err != nil {
		return nil, p.trouble("its answer breaks off")
	}
	if res.StatusCode != http.StatusOK {
		return nil, p.refusal(res, text)
	}
	out := new(back)
	if json.Unmarshal(text, out) != nil {
		return nil, p.trouble("its answer is not what relays answer")
	}
	return out, nil
}

func (p *peer) trouble(what string) error {
	err := problem.New(http.StatusServiceUnavailable, "owner_unreachable", "relay %q has the subscription, and %s", p.name, what)
	err.RetryAfter = 1
	return err
}

// refusal is another relay's answer as the worker sees it: its own mistakes as they are, all else as something that passes.
func (p *peer) refusal(res *http.Response, text []byte) error {
	said := new(problem.Details)
	if json.Unmarshal(text, said) != nil || said.Code == "" {
		return p.trouble(fmt.Sprintf("answers %d", res.StatusCode))
	}
	if said.Status != res.StatusCode || said.Status == http.StatusUnauthorized || said.Status >= 500 || said.Status < 400 {
		return p.trouble("answers: " + said.Detail)
	}
	return said
}

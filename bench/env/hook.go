package env

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/postrider/postrider/bench/child"
)

// Hook is the receiver of webhooks. It counts by path: each path is an endpoint of its own.
type Hook struct {
	URL string // such as http://127.0.0.1:1234; any path below it takes POST requests
	// The same over TLS, with a certificate that nobody has signed: HTTP/1.1 alone, and HTTP/2 as well.
	TLS, HTTP2 string

	control string
	process *child.Process
	client  *http.Client
}

func startHook(ctx context.Context, dir string) (h *Hook, err error) {
	file := filepath.Join(dir, "hook.url")
	h = &Hook{client: &http.Client{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the receiver of webhooks: %w", err), h.Stop())
		}
	}()
	h.process, err = child.Start(ctx, child.Spec{
		Name: "the receiver of webhooks", Log: filepath.Join(dir, "hook.log"), AwaitReady: true,
		Cmd: child.Command(context.WithoutCancel(ctx), "hook", file),
	})
	if err != nil {
		return h, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return h, err
	}
	urls := strings.Fields(string(text))
	h.URL, h.control, h.TLS, h.HTTP2 = urls[0], urls[1], urls[2], urls[3]
	return h, nil
}

// Stop ends the process.
func (h *Hook) Stop() error {
	h.client.CloseIdleConnections()
	if h.process == nil {
		return nil
	}
	return h.process.Stop()
}

// PID is the process's id.
func (h *Hook) PID() int { return h.process.PID() }

// Fresh forgets all arrivals, and answers 204 everywhere.
func (h *Hook) Fresh(ctx context.Context) error {
	_, err := h.ask(ctx, "fresh", "", "")
	return err
}

// Answer makes a path, such as "/a", answer with a status from now on; 0 closes the connection without an answer.
func (h *Hook) Answer(ctx context.Context, path string, status int) error {
	_, err := h.ask(ctx, "answer", path, strconv.Itoa(status))
	return err
}

// Count is the number of different messages that a path, such as "/", has taken. An empty path means all of them together.
func (h *Hook) Count(ctx context.Context, path string) (int64, error) {
	text, err := h.ask(ctx, "count", path, "")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}

// Times returns when each message arrived first at a path, by n, in nanoseconds since 1970. 0 means that it did not.
func (h *Hook) Times(ctx context.Context, path string) ([]int64, error) {
	text, err := h.ask(ctx, "times", path, "")
	if err != nil {
		return nil, err
	}
	times := make([]int64, len(text)/8)
	for i := range times {
		times[i] = int64(binary.LittleEndian.Uint64(text[8*i:]))
	}
	return times, nil
}

func (h *Hook) ask(ctx context.Context, what, path, value string) ([]byte, error) {
	q := url.Values{"path": {path}, "value": {value}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.control+"/"+what+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := h.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the receiver of webhooks: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask the receiver of webhooks: status %d: %s", response.StatusCode, text)
	}
	return text, err
}

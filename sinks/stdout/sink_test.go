package stdout

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a real pipe, as standard output is in a shell, and what was read from it.
type pipe struct {
	r, w *os.File

	mu    sync.Mutex
	lines [][]byte
	bytes int
}

func newPipe(t *testing.T) *pipe {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{r: r, w: w}
	done := make(chan struct{})
	go func() { p.read(); close(done) }()
	t.Cleanup(func() { w.Close(); <-done; r.Close() })
	return p
}

func (p *pipe) read() {
	in := bufio.NewReader(p.r)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.bytes += len(line)
		p.mu.Unlock()
	}
}

// counter counts what was written, so that the reader knows what to wait for.
type counter struct {
	*pipe
	mu sync.Mutex
	n  int
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.mu.Lock()
	c.n += n
	c.mu.Unlock()
	return n, err
}

func (c *counter) received(t *testing.T) []sinktest.Received {
	c.mu.Lock()
	want := c.n
	c.mu.Unlock()
	deadline := time.Now().Add(sinktest.Patience)
	for {
		c.pipe.mu.Lock()
		have, lines := c.bytes, c.lines
		c.pipe.mu.Unlock()
		if have >= want {
			return parse(t, lines)
		}
		if time.Now().After(deadline) {
			t.Fatalf("read %d bytes of %d", have, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func parse(t *testing.T, lines [][]byte) []sinktest.Received {
	var all []sinktest.Received
	for _, line := range lines {
		var v struct {
			ID, Topic, Key, Subscription string
			Payload                      json.RawMessage
			Body                         *string
			Headers                      map[string]string
			Attempt                      int
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("line %.200q: %v", line, err)
		}
		r := sinktest.Received{
			MessageID: v.ID, Topic: v.Topic, Key: v.Key, Payload: v.Payload, ContentType: "application/json",
			Headers: map[string]string{}, Attempt: v.Attempt, Subscription: v.Subscription,
		}
		for name, value := range v.Headers {
			r.Headers[strings.ToLower(name)] = value
		}
		if v.Body != nil {
			body, err := base64.StdEncoding.DecodeString(*v.Body)
			if err != nil {
				t.Fatal(err)
			}
			r.Payload, r.ContentType = body, "application/octet-stream"
		}
		all = append(all, r)
	}
	return all
}

func TestConformance(t *testing.T) {
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		c := &counter{pipe: newPipe(t)}
		return &sinktest.Harness{
			Open:     func(testing.TB) sinks.Sink { return New(c) },
			Received: func() []sinktest.Received { return c.received(t) },
		}
	})
}

func TestLine(t *testing.T) {
	d := sinktest.NewDelivery("orders.created", "{\n \"a\": \"<&>\"\r\n}")
	d.MessageID, d.Key, d.CreatedAt = "s-1-1", "<k>", time.Unix(1, 500_000).UTC()
	var b bytes.Buffer
	if err := sinktest.Deliver(t.Context(), New(&b), d)[0]; err != nil {
		t.Fatal(err)
	}
	want := `{"id":"s-1-1","topic":"orders.created","key":"<k>","created_at":"1970-01-01T00:00:01.0005Z","attempt":1,` +
		`"subscription":"conformance","payload":{  "a": "<&>"  }}` + "\n"
	if b.String() != want {
		t.Errorf("got  %s\nwant %s", b.String(), want)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestOneWritePerBatch(t *testing.T) {
	writes := 0
	s := New(writerFunc(func(b []byte) (int, error) { writes++; return len(b), nil }))
	sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("b", "2"))
	if writes != 1 {
		t.Errorf("%d writes, want 1", writes)
	}
}

func TestWriteErrors(t *testing.T) {
	full := errors.New("disk full")
	for name, w := range map[string]writerFunc{
		"error":       func([]byte) (int, error) { return 0, full },
		"short write": func(b []byte) (int, error) { return len(b) - 1, nil },
	} {
		bad := sinktest.NewDelivery("a", "1")
		bad.Headers = []byte("1")
		got := sinktest.Deliver(t.Context(), New(w), bad, sinktest.NewDelivery("b", "2"))
		sinktest.WantKinds(t, got, sinks.KindPermanent, sinks.KindUnavailable)
		if name == "error" && !errors.Is(got[1], full) || name == "short write" && !errors.Is(got[1], io.ErrShortWrite) {
			t.Errorf("%s: outcome hides its cause: %v", name, got[1])
		}
	}
}

func TestCancelWhileNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := New(w)
	big := sinktest.NewDelivery("a", `"`+strings.Repeat("x", 1<<20)+`"`)
	ctx, cancel := context.WithCancel(t.Context())
	outcome := make(chan error, 1)
	go func() { outcome <- sinktest.Deliver(ctx, s, big)[0] }()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil { // the write has begun
		t.Fatal(err)
	}
	cancel()
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("the outcome of the message that is being written is %v, want the context's error", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sinktest.Deliver(ctx, s, sinktest.NewDelivery("b", "2"))[0]; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the outcome of the next message is %v, want the context's error", err)
	}
	read := make(chan int64, 1)
	go func() { n, _ := io.Copy(io.Discard, r); read <- n }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	w.Close()
	if n := <-read; n < 1<<20 {
		t.Errorf("read %d bytes: the write was cut short", n)
	}
}

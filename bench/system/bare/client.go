package bare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// client posts with net/http, over as many connections as poster has.
type client struct {
	http    http.Client
	how     HTTP
	waiting chan *request
	free    sync.Pool
	workers sync.WaitGroup
}

type request struct {
	id   string
	body bytes.Buffer
}

func newClient(ctx context.Context, how HTTP, fail context.CancelCauseFunc) *client {
	c := &client{how: how, waiting: make(chan *request, connections)}
	c.http.Transport = how.transport()
	c.free.New = func() any { return new(request) }
	for range connections {
		c.workers.Go(func() {
			if err := c.work(ctx); err != nil {
				fail(fmt.Errorf("POST: %w", err))
			}
		})
	}
	return c
}

func (c *client) put(ctx context.Context, id, payload []byte) error {
	r := c.free.Get().(*request)
	r.id = string(id)
	r.body.Reset()
	r.body.Write(payload)
	select {
	case c.waiting <- r:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close waits for the answers to what was sent.
func (c *client) close() error {
	c.workers.Wait()
	c.http.CloseIdleConnections()
	return nil
}

func (c *client) work(ctx context.Context) error {
	for {
		select {
		case r := <-c.waiting:
			if err := c.post(r); err != nil {
				return err
			}
			c.free.Put(r)
		case <-ctx.Done():
			return nil // what was not sent yet is dropped: nobody counts on it
		}
	}
}

func (c *client) post(r *request) error {
	req, err := http.NewRequest(http.MethodPost, c.how.URL, bytes.NewReader(r.body.Bytes()))
	if err != nil {
		return err
	}
	for name, value := range c.how.Header {
		if name == idHeader {
			value = r.id
		}
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the answer is %s", res.Status)
	}
	return nil
}

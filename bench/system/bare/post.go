package bare

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
)

// connections is the number of requests at once.
const connections = 64

// poster writes requests and reads answers by itself: HTTP/1.1 as far as the receiver needs it, and nothing that a client would add.
type poster struct {
	head    []byte // of every request, up to the id
	waiting chan *[]byte
	free    sync.Pool
	workers sync.WaitGroup
}

func newPoster(ctx context.Context, to string, fail context.CancelCauseFunc) (*poster, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	p := &poster{waiting: make(chan *[]byte, connections)}
	p.free.New = func() any { return new([]byte) }
	p.head = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nWebhook-Id: ", u.RequestURI(), u.Host)
	for range connections {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return nil, err
		}
		p.workers.Go(func() {
			defer conn.Close()
			if err := p.work(ctx, conn); err != nil {
				fail(fmt.Errorf("POST: %w", err))
			}
		})
	}
	return p, nil
}

func (p *poster) put(ctx context.Context, id, payload []byte) error {
	request := p.free.Get().(*[]byte)
	b := append(append((*request)[:0], p.head...), id...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, "\r\n\r\n"...)
	*request = append(b, payload...)
	select {
	case p.waiting <- request:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close waits for the answers to what was sent.
func (p *poster) close() error {
	p.workers.Wait()
	return nil
}

// work sends one request after the other over a connection.
func (p *poster) work(ctx context.Context, conn net.Conn) error {
	answers := bufio.NewReader(conn)
	for {
		select {
		case request := <-p.waiting:
			if _, err := conn.Write(*request); err != nil {
				return err
			}
			p.free.Put(request)
			if err := answer(answers); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil // what was not sent yet is dropped: nobody counts on it
		}
	}
}

// answer reads a status of 2xx without a body.
func answer(r *bufio.Reader) error {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 204 ")) {
			return fmt.Errorf("the answer is %q", bytes.TrimSpace(line))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
	}
}

// Command receiver is an example of what a webhook points to: it writes a line of
// JSON for each message that it gets and accepts it.
//
//	receiver [-addr :8080]    serve
//	receiver -check           exit with status 0 if the server at -addr answers
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// maxBody bounds what is read of one message, in bytes.
const maxBody = 16 << 20

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	check := flag.Bool("check", false, "ask the running receiver whether it is healthy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := serve
	if *check {
		run = probe
	}
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

// serve answers on addr until ctx ends, then finishes what is under way.
func serve(ctx context.Context, addr string) error {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	server := &http.Server{Addr: addr, Handler: handler(log), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(ctx)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// probe asks the receiver on this host that listens on addr.
func probe(ctx context.Context, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", req.URL, resp.Status)
	}
	return nil
}

// handler accepts every POST. A receiver that does real work answers 2xx after it
// has committed, and remembers webhook-id: a message may come more than once.
func handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		log.Info("message", "path", r.URL.Path, "headers", messageHeaders(r.Header), "body", string(body))
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// messageHeaders leaves out the headers that any HTTP client sends.
func messageHeaders(h http.Header) map[string]string {
	kept := make(map[string]string)
	for name, values := range h {
		switch name {
		case "Accept-Encoding", "Content-Length", "Connection":
		default:
			kept[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return kept
}

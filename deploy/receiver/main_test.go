package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessageIsLogged(t *testing.T) {
	var out bytes.Buffer
	server := httptest.NewServer(handler(slog.New(slog.NewJSONHandler(&out, nil))))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/hook", strings.NewReader(`{"order":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", "m-1")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	server.Close()
	var line struct {
		Path, Body string
		Headers    map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusNoContent || line.Path != "/hook" || line.Body != `{"order":1}` || line.Headers["webhook-id"] != "m-1" {
		t.Errorf("status %d, logged %s", resp.StatusCode, out.Bytes())
	}
}

func TestServeAndProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	if err := probe(t.Context(), addr); err == nil {
		t.Error("nobody listens, yet the probe succeeds")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, addr) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := probe(t.Context(), addr)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if err := serve(t.Context(), "127.0.0.1:nowhere"); err == nil {
		t.Error("a bad address was accepted")
	}
}

package env

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A stream that is deleted leaves no files: the next one of its name would run into them.
func TestDeletedStreamsAreGone(t *testing.T) {
	n, err := startNATS(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := n.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	at, err := filepath.Glob(filepath.Join(n.streams, Stream))
	if err != nil || len(at) != 1 {
		t.Fatalf("the stream's files are in %v, %v", at, err)
	}
	left := filepath.Join(filepath.Dir(at[0]), "."+Stream)
	if _, err := n.JS.Publish(t.Context(), "bench.t1", nil); err != nil {
		t.Fatal(err)
	}
	// The server takes its time to remove what it has deleted; here this test does.
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.awaitGone(t.Context(), Stream) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait for %s: %v", left, err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := n.Fresh(t.Context()); err != nil {
			t.Fatal(fmt.Errorf("round %d: %w", i, err))
		}
		if _, err := os.Stat(left); err == nil {
			t.Fatalf("round %d: %s is still there", i, left)
		}
		if count, err := n.Count(t.Context()); count != 0 || err != nil {
			t.Fatalf("round %d: the new stream has %d messages, %v", i, count, err)
		}
	}
}

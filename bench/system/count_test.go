package system

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

func TestCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "count")
	read := func(want int64) {
		t.Helper()
		if got, err := ReadCount(file); got != want || err != nil {
			t.Errorf("the count is %d, %v instead of %d", got, err, want)
		}
	}
	read(0)
	var n atomic.Int64
	n.Store(300)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteCount(ctx, file, &n); err != nil {
		t.Fatal(err)
	}
	read(300)
	if err := os.WriteFile(file, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := ReadCount(file); err == nil {
		t.Errorf("three bytes were read as %d", n)
	}
}

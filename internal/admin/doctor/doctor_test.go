package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestClockFinding(t *testing.T) {
	before := time.Now()
	after := before.Add(3 * time.Second)
	for _, c := range []struct {
		server time.Time
		status string
		words  string
	}{
		{before.Add(time.Second), StatusOK, "agree"},
		{before.Add(-900 * time.Millisecond), StatusOK, "agree"},
		{after.Add(900 * time.Millisecond), StatusOK, "agree"},
		{before.Add(-time.Minute), StatusWarn, "1m behind"},
		{after.Add(time.Hour), StatusWarn, "1h ahead of"},
	} {
		if f := clockFinding(before, after, c.server); f.Status != c.status || !strings.Contains(f.Message, c.words) {
			t.Errorf("server at %v: %+v, want %s, %q", c.server.Sub(before), f, c.status, c.words)
		}
	}
}

func TestTLSRemedyIsForTLS(t *testing.T) {
	if got := tlsRemedy(errors.New("connection refused")); got != "" {
		t.Errorf("got %q", got)
	}
}

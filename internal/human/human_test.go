package human

import (
	"testing"
	"time"
)

func TestHuman(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 500 * time.Microsecond: "0s", 42 * time.Millisecond: "42ms", 1500 * time.Millisecond: "1.5s", 12 * time.Second: "12s",
		time.Minute: "1m", 90 * time.Second: "1m 30s", time.Hour: "1h", 25 * time.Hour: "1d 1h", -2 * time.Second: "-2s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("human(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := Number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}
}

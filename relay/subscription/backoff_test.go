package subscription_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/subscription"
)

func TestBackoffSchedule(t *testing.T) {
	s, err := subscription.ParseSettings([]byte(`{"backoff_schedule": ["5s", "5m", "30m"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.MaxAttempts != 4 {
		t.Errorf("%d attempts, want one more than the schedule has waits", s.MaxAttempts)
	}
	for attempts, want := range map[int]time.Duration{1: 5 * time.Second, 2: 5 * time.Minute, 3: 30 * time.Minute, 4: 30 * time.Minute, 1000: 30 * time.Minute} {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range 300 {
			got := s.Backoff(attempts)
			low, high = min(low, got), max(high, got)
		}
		if low < want*8/10 || low > want*85/100 || high > want*12/10 || high < want*115/100 {
			t.Errorf("after %d attempts from %s to %s, want about %s with a jitter of a fifth", attempts, low, high, want)
		}
	}
	if s, err := subscription.ParseSettings([]byte(`{"backoff_schedule": ["1s"], "max_attempts": 7}`)); err != nil || s.MaxAttempts != 7 || s.Backoff(6) > 2*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := subscription.ParseSettings([]byte(`{"backoff_initial": "2s"}`)); err != nil || s.MaxAttempts != 20 || s.Backoff(1) > 3*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestBackoffDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "first"))
		most := first + time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(t, "most"))
		attempts := rapid.IntRange(1, 1_000_000).Draw(t, "attempts")
		if rapid.Bool().Draw(t, "few") {
			attempts = 1 + attempts%20
		}
		want := float64(first)
		for i := 1; i < min(attempts, 200); i++ {
			want *= 2
		}
		want = min(want, float64(most))
		s := subscription.Settings{BackoffInitial: subscription.Duration(first), BackoffMax: subscription.Duration(most)}
		got := s.Backoff(attempts)
		if float64(got) < 0.8*want-1 || float64(got) > 1.2*want+1 {
			t.Errorf("after %d attempts from %s to %s: %s, want about %s", attempts, first, most, got, time.Duration(want))
		}
	})
	longest := subscription.Settings{BackoffInitial: subscription.Duration(time.Second), BackoffMax: 1<<63 - 1}
	if d := longest.Backoff(90); d < 1<<62 {
		t.Errorf("the longest wait that there is has become %s", d)
	}
	second := subscription.Settings{BackoffInitial: subscription.Duration(time.Second), BackoffMax: subscription.Duration(time.Hour)}
	low, high := time.Hour, time.Duration(0)
	for range 200 {
		d := second.Backoff(1)
		low, high = min(low, d), max(high, d)
	}
	if low > 850*time.Millisecond || high < 1150*time.Millisecond {
		t.Errorf("waits from %s to %s: what failed together comes back together", low, high)
	}
}

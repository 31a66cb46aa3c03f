package delivery

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNoticesAreFew(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	logger := slog.New(slog.NewTextHandler(&log, nil))
	lines := func(words string) int { return strings.Count(log.String(), words) }
	var d deathNotices
	for i := range 60_000 { // one a millisecond, for a minute
		d.add(int64(i), fmt.Sprintf("reason %d", i))
		if due, wait := d.due(now); due {
			d.tell(logger, "s", now)
		} else if wait <= 0 || wait > NoticeEvery {
			t.Fatalf("wait for %s", wait)
		}
		now = now.Add(time.Millisecond)
	}
	d.tell(logger, "s", now)
	if n := lines("dead letter"); n != 13 {
		t.Errorf("%d lines in a minute, want one and then one every five seconds", n)
	}
	if len(d.reasons) > mostReasons {
		t.Errorf("%d reasons are kept", len(d.reasons))
	}
	var tr troubleNotices
	for i := range 600 { // an attempt a second, each from another port
		tr.tell(logger, "s", fmt.Sprintf("read from port %d: reset", i), now)
		now = now.Add(time.Second)
	}
	tr.tell(logger, "s", "", now)
	if begun, still := lines("deliveries stand still"), lines("still stand still"); begun != 1 || still != 9 {
		t.Errorf("%d lines of the beginning and %d of its going on, want 1 and 9", begun, still)
	}
	if n, after := lines(`msg="deliveries go on"`), lines("after=10m0s"); n != 1 || after != 1 {
		t.Errorf("%d lines of the end, %d with how long it took, want one:\n%s", n, after, log.String())
	}
}

func TestShorten(t *testing.T) {
	if got := Shorten(strings.Repeat("é", longReason)); got != strings.Repeat("é", longReason/2)+" …" {
		t.Errorf("got %q", got)
	}
}

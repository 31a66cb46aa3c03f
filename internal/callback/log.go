package callback

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// logEvery bounds how often strangers, or a database that is down, can write to the log.
const logEvery = 10 * time.Second

// eventLog never shows a path, which holds a signature.
type eventLog struct {
	log            *slog.Logger
	forged, broken sometimes
}

func newLog(log *slog.Logger) *eventLog {
	return &eventLog{log: log, forged: newSometimes(), broken: newSometimes()}
}

// sometimes lets one through per logEvery, and counts the others.
type sometimes struct {
	*rate.Limiter
	missed *atomic.Int64
}

func newSometimes() sometimes {
	return sometimes{rate.NewLimiter(rate.Every(logEvery), 1), new(atomic.Int64)}
}

// now returns how many were not let through since the last that was.
func (s sometimes) now() (missed int64, ok bool) {
	if !s.Allow() {
		s.missed.Add(1)
		return 0, false
	}
	return s.missed.Swap(0), true
}

// answered logs one callback.
func (l *eventLog) answered(r *http.Request, cb Attempt, out reply, took time.Duration) {
	attrs := []any{"action", human.Clip(cb.Action, 20), "subscription", human.Clip(cb.Subscription, 70), "id", cb.ID, "token", cb.Token, "from", r.RemoteAddr}
	switch {
	case out.result == "forged":
		if missed, ok := l.forged.now(); ok {
			l.log.Warn("a callback is refused: its signature does not verify", append(attrs, "others_since_the_last_line", missed)...)
		}
	case out.err != nil && !errors.Is(out.err, context.Canceled):
		if missed, ok := l.broken.now(); ok {
			l.log.Warn("a callback cannot be recorded", append(attrs, "error", dbconn.Explain(out.err), "others_since_the_last_line", missed)...)
		}
	default:
		l.log.Debug("callback", append(attrs, "status", out.status, "result", out.result, "took", took.Round(time.Microsecond))...)
	}
}

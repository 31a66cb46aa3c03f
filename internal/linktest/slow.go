package linktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
)

// Toxics write to zerolog's global logger, whatever logger they are given. Nobody else here uses it.
func init() { log.Logger = zerolog.Nop() }

// toxic is one toxic, as toxiproxy reads it.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Attributes map[string]int64 `json:"attributes"`
}

// Slow delays bytes by latency ± jitter (in whole milliseconds) and limits their rate (in steps of 1000
// bytes per second, at least one), in each direction: a round trip takes twice the latency. Zero is no delay and
// no limit. It replaces what an earlier Slow asked for, holds for connections that exist and lasts until Heal.
func (l *Link) Slow(latency, jitter time.Duration, bytesPerSecond int64) error {
	var want []toxic
	for _, direction := range []string{"upstream", "downstream"} {
		if latency > 0 || jitter > 0 {
			want = append(want, toxic{"latency " + direction, "latency", direction, map[string]int64{
				"latency": latency.Milliseconds(), "jitter": jitter.Milliseconds(),
			}})
		}
		if bytesPerSecond > 0 {
			want = append(want, toxic{"bandwidth " + direction, "bandwidth", direction, map[string]int64{
				"rate": max(1, bytesPerSecond/1000),
			}})
		}
	}
	if err := l.reshape(want); err != nil {
		return fmt.Errorf("slow the link down: %w", err)
	}
	return nil
}

// reshape replaces all toxics.
func (l *Link) reshape(want []toxic) error {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.loosen(true)
	defer l.loosen(false)
	var errs []error
	// Last one first: what a toxic has buffered goes through those behind it, with a deadline.
	for i := len(l.shape.names) - 1; i >= 0; i-- {
		errs = append(errs, l.toxics.RemoveToxic(context.Background(), l.shape.names[i]))
	}
	l.shape.names = nil
	for _, t := range want {
		text, err := json.Marshal(t)
		if err == nil {
			_, err = l.toxics.AddToxicJson(bytes.NewReader(text))
		}
		if err == nil {
			l.shape.names = append(l.shape.names, t.Name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// loosen makes all outlets take everything at once, or not.
func (l *Link) loosen(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loose = yes
	for p := range l.pairs {
		p.up.loosen(yes)
		p.down.loosen(yes)
	}
}

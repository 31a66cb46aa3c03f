package webhook

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/sinks"
)

// rereadInterval is how old the text of a file may be. It is read as a whole, not compared by time and size: these miss
// a change within one tick of the file system's clock, and secrets are short.
const rereadInterval = time.Second

// watched is what was made of a secret, and is made anew when its text changes. Only files change; they are checked
// when the value is used, at most once per rereadInterval.
type watched[T any] struct {
	setting string
	ref     reference
	parse   func(secret) (T, error)
	from    *sinks.Secrets
	log     *slog.Logger

	value atomic.Pointer[T] // a pointer also hides what is behind it from fmt
	born  time.Time
	due   atomic.Int64 // when to check again, in nanoseconds since born

	mu     sync.Mutex // held while checking
	sum    [sha256.Size]byte
	failed string // the trouble that was reported last
}

// watch reads the secret that a setting refers to. Later trouble keeps the value and is logged once.
func watch[T any](log *slog.Logger, from *sinks.Secrets, setting, ref string, parse func(secret) (T, error)) (*watched[T], error) {
	r, err := parseReference(setting, ref)
	if err != nil {
		return nil, err
	}
	w := &watched[T]{setting: setting, ref: r, parse: parse, from: from, log: log, born: time.Now()}
	if _, err := w.read(); err != nil {
		return nil, from.Hide(setting, ref, err)
	}
	w.due.Store(int64(rereadInterval))
	return w, nil
}

// get returns the value as of now.
func (w *watched[T]) get(now time.Time) T {
	// Others go on with the old value while one checks.
	if w.ref.kind == "file" && int64(now.Sub(w.born)) >= w.due.Load() && w.mu.TryLock() {
		w.check(now)
		w.mu.Unlock()
	}
	return *w.value.Load()
}

func (w *watched[T]) check(now time.Time) {
	w.due.Store(int64(now.Sub(w.born) + rereadInterval))
	changed, err := w.read()
	switch {
	case err == nil && changed:
		w.log.Info("secret has changed and is used from now on", "setting", w.setting, "reference", w.ref.String())
	case err != nil && err.Error() != w.failed:
		w.log.Warn("secret cannot be read again, its last value stays in use", "setting", w.setting, "reference", w.ref.String(), "error", err)
	}
	w.failed = ""
	if err != nil {
		w.failed = err.Error()
	}
}

// read fetches the text and, if it is not the same as before, makes a value of it.
func (w *watched[T]) read() (changed bool, err error) {
	text, err := w.ref.read(w.from)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256([]byte(text.reveal()))
	if w.value.Load() != nil && sum == w.sum {
		return false, nil
	}
	v, err := w.parse(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", w.ref, err)
	}
	w.value.Store(&v)
	w.sum = sum
	return true, nil
}

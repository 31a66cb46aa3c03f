package secret

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// RereadInterval is how old the text of a file may be. It is read as a whole, not compared by time and size: these miss
// a change within one tick of the file system's clock, and secrets are short.
const RereadInterval = time.Second

// Watched is what was made of a secret, and is made anew when its text changes. Only files change; they are checked
// when the value is used, at most once per RereadInterval.
type Watched[T any] struct {
	setting string
	ref     Reference
	parse   func(Text) (T, error) // its errors show no secret
	from    *Store
	log     *slog.Logger

	value atomic.Pointer[T] // a pointer also hides what is behind it from fmt
	born  time.Time         // due counts from it
	due   atomic.Int64      // when to check again, in nanoseconds since born

	mu     sync.Mutex        // held while checking
	sum    [sha256.Size]byte // of the text of which value was made
	failed string            // the trouble that was reported last
}

// Watch reads the secret that a setting refers to. Later trouble keeps the value and is logged once.
func Watch[T any](log *slog.Logger, from *Store, setting, ref string, parse func(Text) (T, error)) (*Watched[T], error) {
	r, err := ParseReference(setting, ref)
	if err != nil {
		return nil, err
	}
	w := &Watched[T]{setting: setting, ref: r, parse: parse, from: from, log: log, born: time.Now()}
	if _, err := w.read(); err != nil {
		return nil, from.Hide(setting, ref, err)
	}
	w.due.Store(int64(RereadInterval))
	return w, nil
}

// Get returns the value as of now.
func (w *Watched[T]) Get(now time.Time) T {
	// Others go on with the old value while one checks.
	if w.ref.InFile() && int64(now.Sub(w.born)) >= w.due.Load() && w.mu.TryLock() {
		w.check(now)
		w.mu.Unlock()
	}
	return *w.value.Load()
}

// Check reads the secret again, however old the value is.
func (w *Watched[T]) Check(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check(now)
}

func (w *Watched[T]) check(now time.Time) {
	w.due.Store(int64(now.Sub(w.born) + RereadInterval))
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
func (w *Watched[T]) read() (changed bool, err error) {
	text, err := w.ref.Read(w.from)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256([]byte(text.Reveal()))
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

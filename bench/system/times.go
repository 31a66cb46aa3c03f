package system

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Helped is a Process that has others beside it, whose CPU time counts as the destination's.
type Helped interface{ Helpers() []int }

// TimesFile is where a process without a destination writes, when it ends, when it began each message: pairs of eight bytes, little-endian.
func TimesFile(p Place) string { return filepath.Join(p.Dir, "times") }

// Times keeps when messages were begun.
type Times struct {
	mu   sync.Mutex
	data []byte
}

// NewTimes makes one.
func NewTimes() *Times { return &Times{} }

// Note takes down that message n begins now.
func (t *Times) Note(n int64) {
	now := time.Now().UnixNano()
	t.mu.Lock()
	t.data = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(t.data, uint64(n)), uint64(now))
	t.mu.Unlock()
}

// Write writes them down.
func (t *Times) Write(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := os.WriteFile(path, t.data, 0o600); err != nil {
		return fmt.Errorf("write the times: %w", err)
	}
	return nil
}

// ReadTimes returns when each message was begun first, by n, in nanoseconds since 1970; 0: it was not.
func ReadTimes(path string) ([]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the times: %w", err)
	}
	var times []int64
	for ; len(data) >= 16; data = data[16:] {
		n, at := int(binary.LittleEndian.Uint64(data)), int64(binary.LittleEndian.Uint64(data[8:]))
		for len(times) <= n {
			times = append(times, 0)
		}
		if times[n] == 0 || at < times[n] {
			times[n] = at
		}
	}
	return times, nil
}

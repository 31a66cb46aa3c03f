package system

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Checker is a System that needs more than Go: a program that may not be there. The error says what to install.
type Checker interface {
	Check(ctx context.Context) error
}

// Counter is a Process that was started without a destination and counts what it has worked off. The count lags by up to CountEvery.
type Counter interface{ Count() (int64, error) }

// Counting makes a Counter of a process that writes its count to file.
func Counting(p Process, file string) Process { return counting{p, file} }

type counting struct {
	Process
	file string
}

func (c counting) Count() (int64, error) { return ReadCount(c.file) }

var _ Counter = counting{}

// CountEvery is how often a process without a destination writes its count down.
const CountEvery = 5 * time.Millisecond

// CountFile is where a process without a destination writes its count to: eight bytes, little-endian.
func CountFile(p Place) string { return filepath.Join(p.Dir, "count") }

// ReadCount reads a count file. Before the first write the count is 0.
func ReadCount(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return 0, nil
	}
	if err == nil && len(b) != 8 {
		err = fmt.Errorf("%d bytes instead of 8", len(b))
	}
	if err != nil {
		return 0, fmt.Errorf("read the count: %w", err)
	}
	return int64(binary.LittleEndian.Uint64(b)), nil
}

// WriteCount writes n down whenever it has changed, until ctx ends, and then once more.
func WriteCount(ctx context.Context, path string, n *atomic.Int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the count: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tick := time.NewTicker(CountEvery)
	defer tick.Stop()
	for last, ended := int64(0), false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		if now := n.Load(); now != last {
			last = now
			if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(now)), 0); err != nil {
				return fmt.Errorf("write the count: %w", err)
			}
		}
	}
	return nil
}

// Package stdout writes messages as NDJSON, one line each, to standard output or any other writer.
package stdout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postrider/postrider/sinks"
)

// drain bounds how long Close waits for a write that is stuck in a full pipe.
const drain = 5 * time.Second

// Sink writes each batch with one call of Write. A message counts as accepted when Write has returned without error.
type Sink struct {
	w io.Writer
	// turn holds a token for the one who may write.
	turn chan struct{}
}

var _ sinks.Sink = (*Sink)(nil)

// New returns a sink that writes to w. The sink does not close w.
func New(w io.Writer) *Sink {
	return &Sink{w: w, turn: make(chan struct{}, 1)}
}

// Limits asks for one lane: there is one writer.
func (s *Sink) Limits() sinks.Limits { return sinks.Limits{Lanes: 1, Batch: 256} }

// Deliver writes the batch. A message that cannot be rendered is Permanent; an error of the writer is Unavailable for
// the whole batch, of which a part may then have been written.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	if err := ctx.Err(); err != nil {
		fill(outcomes, err)
		return
	}
	var lines bytes.Buffer
	for i := range batch {
		if err := appendLine(&lines, &batch[i]); err != nil {
			outcomes[i] = sinks.Permanent(err)
		}
	}
	if lines.Len() == 0 {
		return
	}
	if err := s.write(ctx, lines.Bytes()); err != nil {
		fill(outcomes, err)
	}
}

// write runs Write beside the caller, who is free to leave when ctx ends: a pipe that nobody reads blocks for ever.
func (s *Sink) write(ctx context.Context, lines []byte) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		n, err := s.w.Write(lines)
		if err == nil && n < len(lines) {
			err = io.ErrShortWrite
		}
		<-s.turn
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return sinks.Unavailable(fmt.Errorf("write to standard output: %w", err), 0)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fill sets the outcomes that are not decided yet.
func fill(outcomes []error, err error) {
	for i := range outcomes {
		if outcomes[i] == nil {
			outcomes[i] = err
		}
	}
}

// Close waits for a write that a cancelled Deliver left behind, at most five seconds.
func (s *Sink) Close() error {
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case s.turn <- struct{}{}:
		<-s.turn
		return nil
	case <-timer.C:
		return errors.New("close standard output: a write is stuck, nobody reads")
	}
}

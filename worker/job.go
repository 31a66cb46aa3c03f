package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Job is one attempt at a message.
type Job struct {
	Subscription string
	ID           int64
	Topic, Key   string
	// Payload is the message's JSON; nil if it has a Body instead.
	Payload json.RawMessage
	Body    []byte
	Headers map[string]string
	// CreatedAt is when the message was inserted, by the database's clock.
	CreatedAt time.Time
	Priority  int
	// Attempt is 1 for the first one. MaxAttempts is after how many the message is a dead letter; SQL does not tell it (0).
	Attempt, MaxAttempts int
	// Deadline is when the attempt was to end when it began, by the server's clock. Progress moves it. SQL does not tell it (zero).
	Deadline time.Time

	tx       pgx.Tx
	result   json.RawMessage
	progress func(percent int, note string)
}

// maxResult is as much as a result may have.
const maxResult = 64 << 10

// Decode unmarshals the payload into v, a pointer.
func (j *Job) Decode(v any) error {
	if j.Payload == nil {
		return fmt.Errorf("message %d with topic %s has no payload but a body of %d bytes: read Body", j.ID, j.Topic, len(j.Body))
	}
	if err := json.Unmarshal(j.Payload, v); err != nil {
		return fmt.Errorf("decode the payload of message %d with topic %s: %w", j.ID, j.Topic, err)
	}
	return nil
}

// Tx is the transaction that takes the job and does its work: what it writes and that the job is done are committed together, or not
// at all. The worker ends it; Begin makes a savepoint. It is nil with Pull.
func (j *Job) Tx() pgx.Tx { return j.tx }

// Progress says how far the work has come, 0 to 100 percent, with a note for people. It travels with the next beat, and moves the
// attempt's deadline. With SQL it does nothing: others see nothing of a transaction before it ends.
func (j *Job) Progress(percent int, note string) {
	if j.progress != nil {
		j.progress(min(max(percent, 0), 100), text(note, 500))
	}
}

// SetResult keeps v, marshalled by encoding/json, as the job's result, to be kept when it is done: at most 64 KiB.
func (j *Job) SetResult(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("the result of message %d cannot be marshalled: %w", j.ID, err)
	}
	if len(data) > maxResult {
		return fmt.Errorf("the result of message %d has %d bytes: at most %d are kept", j.ID, len(data), maxResult)
	}
	j.result = data
	return nil
}

// jobTx keeps handlers from ending the transaction of all jobs of a batch.
type jobTx struct{ pgx.Tx }

var errNotYours = errors.New("the worker ends the transaction of its jobs: return nil to commit, an error to undo what this job has done")

func (jobTx) Commit(context.Context) error   { return errNotYours }
func (jobTx) Rollback(context.Context) error { return errNotYours }

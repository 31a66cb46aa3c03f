package maintain

import (
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/store"
)

// eventsEvery is how soon operators are told.
const eventsEvery = 2 * time.Second

// Events makes messages of what operators are to know.
type Events struct {
	Store store.Events
	Log   *slog.Logger
}

// Job is the making of messages as a job.
func (e *Events) Job() Job {
	return Job{every: eventsEvery, turn: once(e.Log, "operators are not told of events", e.Store.Tell)}
}

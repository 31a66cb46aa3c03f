package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/progress"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// intake takes messages in for one cursor, from the table or from the feed, and counts off what is settled.
type intake struct {
	env      *Environment
	part     subscription.Part // whose cursor it is
	turn     int               // its place among the runner's
	filter   *Filter
	prog     *progress.Progress
	live     live
	dirty    bool // there is progress to save
	pass     passing
	newTasks []task // allocated, not used yet
	tasks    int    // of its class in the lanes, delivering included
	bytes    int64  // that these have
	saved    savedCursor
	records  records  // of its messages
	joining  *joining // its runner's
}

// savedCursor is a cursor as it was last saved.
type savedCursor struct {
	text        string
	trouble     string
	destination store.Destination
	at          time.Time
}

// newIntake makes what stands where the cursor does.
func newIntake(r *Runner, f *Filter, c store.Cursor) *intake {
	at := c.Position
	return &intake{env: &r.Env, part: c.Part, turn: len(r.intakes), joining: &r.joining, filter: f.of(c.Part.Class), prog: progress.New(at), pass: passing{resume: &at},
		dirty: c.Trouble != "", saved: savedCursor{text: at.String(), trouble: c.Trouble}} // whoever had it before may have had another
}

type passing struct {
	reader  *passReader
	page    store.Page // rows not admitted yet
	resume  *snapshot.Position
	rows    int
	made    bool // a pass has been made since the start
	present bool // and one that began after the start has been admitted whole
	exclude bool
}

type live struct {
	queue    *queue.Queue
	awaiting bool // the queue's target
	frozen   struct {
		closed snapshot.Closed
		limit  *snapshot.Window
	}
}

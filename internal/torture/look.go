package torture

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// looker does what a receiver does that looks up what it was told of: the transaction must be there for everybody.
type looker struct {
	db   *database
	ids  chan int64
	halt context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	looked int
	early  []int64 // messages whose transaction was not there
}

// lookEvery is how many arrivals there are to one that is looked up, at most.
const lookEvery = 8

func startLooker(db *database) *looker {
	ctx, cancel := context.WithCancel(context.Background())
	l := &looker{db: db, ids: make(chan int64, 4), halt: cancel}
	l.done.Go(func() { l.run(ctx) })
	return l
}

// at asks for a look, unless it is busy.
func (l *looker) at(id int64) {
	if id%lookEvery != 0 {
		return
	}
	select {
	case l.ids <- id:
	default:
	}
}

func (l *looker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-l.ids:
			l.look(ctx, id)
		}
	}
}

// look asks for the transaction of a message. A database that does not answer proves nothing.
func (l *looker) look(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var there bool
	err := l.db.admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM torture.tx WHERE number = $1)", id/txMessages).Scan(&there)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked++
	if !there {
		l.early = append(l.early, id)
	}
}

// violations tells of what was delivered before it was there, except for what was there on a server that is no more.
func (l *looker) violations(t *truth) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.early {
		if !t.vanished[id] {
			list = append(list, fmt.Sprintf("message %s was delivered before its transaction was visible, or it rolled back", idString(id)))
		}
	}
	return list
}

func (l *looker) stop() error {
	l.halt()
	l.done.Wait()
	return nil
}

package maintain

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/store"
)

const (
	againEvery   = time.Second // how long a duplicate waits, at the longest, after its first message is settled as the tables tell
	uniqueEvery  = time.Minute // between looks for keys that are free again
	uniqueAtOnce = 1000        // keys that are looked at in one transaction
)

// Unique looks after the unique keys of all subscriptions.
type Unique struct {
	Store store.Unique
	Asked func(store.Asked) // called with what else there is to do
	Log   *slog.Logger
}

// Jobs are what is to be done for them.
func (u *Unique) Jobs() []Job {
	return []Job{
		{every: againEvery, turn: once(u.Log, "duplicates of settled messages not enqueued", u.again)},
		{every: uniqueEvery, turn: once(u.Log, "unique keys not removed", u.expire)},
	}
}

func (u *Unique) again(ctx context.Context) error {
	asked, err := u.Store.EnqueueAgain(ctx)
	u.Asked(asked)
	return err
}

// expire looks at all keys, a batch at a time.
func (u *Unique) expire(ctx context.Context) error {
	for after := int64(0); ; {
		at, looked, err := u.Store.Expire(ctx, after, uniqueAtOnce)
		if err != nil || looked < uniqueAtOnce {
			return err
		}
		after = at
	}
}

package migrations

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// cancel asks for a message of w to be cancelled and returns the answer.
func (s *shop) cancel(id int64) string {
	s.t.Helper()
	return one[string](s.t, s.app, `SELECT answer FROM postrider.cancel($1, 'w', 'not wanted')`, id)
}

// Of workers in SQL a message is cancelled at once, wherever it waits: no worker gets it, no redrive or replay brings it back, and its key goes on.
func TestCancelForWorkersInSQL(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	put := s.put("k", "k", "k", "other")
	first, second, third, last := put[0], put[1], put[2], put[3]
	s.batch(1, func(tx pgx.Tx, jobs []job) {
		wantIDs(t, "taken", jobs, first)
		exec(t, tx, `SELECT postrider.retry('w', $1)`, first)
	})
	for _, id := range []int64{second, first, last} {
		if got := s.cancel(id); got != "cancelled" {
			t.Errorf("the answer for %d is %s", id, got)
		}
	}
	wantIDs(t, "what is left", drainShards(t, s.worker, "w"), third)
	if got := s.cancel(third); got != "delivered" {
		t.Errorf("cancelled too late, the answer is %s", got)
	}
	if n := one[int](t, s.app, `SELECT postrider.redrive('w', $1)`, []int64{first, second, last}); n != 0 {
		t.Errorf("%d cancelled messages were redriven", n)
	}
	exec(t, s.app, `SELECT postrider.replay('w', 'earliest')`)
	wantIDs(t, "delivered again", drainShards(t, s.worker, "w"), third)
	s.put("k", "k", "k")
	if n := one[int](t, s.app, `SELECT postrider.cancel_many('w', topic => '>', key => 'k')`); n != 3 {
		t.Errorf("%d messages were cancelled, want 3", n)
	}
	wantIDs(t, "of many that were cancelled", drainShards(t, s.worker, "w"))
}

// Behind one that failed the rest of its key is held. Once that one is cancelled, the next that is wanted goes at once, and the others after it.
func TestCancelLetsItsKeyGoOn(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	put := s.put("k", "k", "k", "k")
	s.batch(4, func(tx pgx.Tx, jobs []job) {
		wantIDs(t, "taken", jobs, put...)
		exec(t, tx, `SELECT postrider.retry('w', $1)`, put[0])
	})
	s.statuses(map[int64]string{put[0]: "retrying", put[1]: "held", put[2]: "held", put[3]: "held"})
	s.cancel(put[1])
	wantIDs(t, "while the first one waits", drainShards(t, s.worker, "w"))
	s.cancel(put[0])
	wantIDs(t, "once it is cancelled", drainShards(t, s.worker, "w"), put[2], put[3])
}

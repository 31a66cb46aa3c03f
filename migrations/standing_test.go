package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// A message that a save makes an exception of while somebody asks where it stands is not settled, not for a moment.
func TestStandingWhileItIsParked(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	saver, asker := db.Conn(t), db.Conn(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := saver.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("SELECT postrider.subscribe('mail', '{>}', 'http://127.0.0.1:9/')")
	exec("UPDATE postrider.cursors SET owner = gen_random_uuid()")
	asked := 0
	for range 300 {
		var id int64
		err := saver.QueryRow(t.Context(), `SELECT id FROM postrider.enqueue('mail.x', '{}', deliver_at => now() + interval '1 hour') AS e (id)`).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		wrong := make(chan string, 1)
		go func() {
			defer close(wrong)
			for ended := false; !ended; {
				select {
				case <-done:
					ended = true // and once more
				default:
				}
				var stands string
				err := asker.QueryRow(t.Context(), `SELECT postrider.standing_of('mail', o.id, o.created_at, o.segment) FROM postrider.outbox o WHERE id = $1`, id).Scan(&stands)
				if asked++; err != nil || stands != "pending" {
					wrong <- stands
					return
				}
			}
		}()
		exec(`WITH saved AS (UPDATE postrider.cursors SET base = pg_current_snapshot() RETURNING subscription)
			INSERT INTO postrider.parked (subscription, id, created_at, xid, state, due, topic, payload)
			SELECT s.subscription, o.id, o.created_at, o.xid, 'scheduled', o.deliver_at, o.topic, o.payload FROM saved s, postrider.outbox o WHERE o.id = $1`, id)
		close(done)
		if stands, some := <-wrong; some {
			t.Fatalf("message %d, due in an hour, is %q while it is parked, want pending", id, stands)
		}
	}
	if asked < 600 {
		t.Errorf("it was asked %d times, which proves nothing", asked)
	}
}

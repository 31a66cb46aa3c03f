package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// kinds are all habits, several producers of some. (A transaction that notifies cannot be prepared.)
func kinds(follow string, jobs bool) []kind {
	short := kind{"short", 12 * time.Millisecond, writeShort}
	locked := kind{"locked", 25 * time.Millisecond, writeLocked}
	list := []kind{
		short, short, short, locked, locked, locked,
		{"keyless", 10 * time.Millisecond, writeKeyless},
		{"batch", 400 * time.Millisecond, writeBatch},
		{"long", 300 * time.Millisecond, writeLong},
		{"rollback", 20 * time.Millisecond, writeRollback},
		{"savepoint", 40 * time.Millisecond, writeSavepoints},
		{"scheduled", 200 * time.Millisecond, writeScheduled},
		{"strict", 60 * time.Millisecond, writeStrict},
		{"poison", 500 * time.Millisecond, writePoison},
	}
	if jobs {
		unique := kind{"unique", 15 * time.Millisecond, writeUnique}
		list = append(list, unique, unique, unique, kind{"classed", 30 * time.Millisecond, writeClassed}, kind{"classed", 30 * time.Millisecond, writeClassed})
	}
	if follow != "listen" {
		list = append(list, kind{"prepared", 300 * time.Millisecond, writePrepared})
	}
	return list
}

// writeShort inserts one to three messages of one of its own keys.
func writeShort(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		key := p.key(p.rng.IntN(8))
		for range 1 + p.rng.IntN(3) {
			if err := t.insert(ctx, Message{Topic: p.topic(), Key: key, Order: p.next()}); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeLocked inserts into keys that it shares with others, as applications do: whoever holds the row of the key is next.
func writeLocked(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		key := fmt.Sprintf("shared-%d", p.rng.IntN(5))
		for range 1 + p.rng.IntN(2) {
			var order int64
			err := conn.QueryRow(ctx, "UPDATE torture.keys SET last = last + 1 WHERE key = $1 RETURNING last", key).Scan(&order)
			if err != nil {
				return err
			}
			if err := t.insert(ctx, Message{Topic: p.topic(), Key: key, Order: order}); err != nil {
				return err
			}
		}
		if p.rng.IntN(10) == 0 {
			return errRollback
		}
		return nil
	})
}

func writeKeyless(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error { return t.insert(ctx, Message{Topic: p.topic()}) })
}

// writeBatch inserts many messages of many keys at once.
func writeBatch(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		messages := make([]Message, 50+p.rng.IntN(150))
		for i := range messages {
			messages[i] = Message{Topic: p.topic(), Key: p.key(p.rng.IntN(20)), Order: p.next()}
		}
		return t.insert(ctx, messages...)
	})
}

// writeLong stays open, with messages at its start, in between and at its end.
func writeLong(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		for range 3 {
			if err := t.insert(ctx, Message{Topic: p.topic(), Key: p.key(p.rng.IntN(3)), Order: p.next()}); err != nil {
				return err
			}
			if !pause(ctx, time.Duration(p.rng.IntN(600))*time.Millisecond) {
				return ctx.Err()
			}
		}
		if p.rng.IntN(4) == 0 {
			return errRollback
		}
		return nil
	})
}

// writeRollback inserts and thinks better of it.
func writeRollback(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		err := t.insert(ctx, Message{Topic: p.topic(), Key: p.key(0), Order: p.next()}, Message{Topic: p.topic()})
		return errors.Join(err, errRollback)
	})
}

// writeSavepoints nests savepoints; some are rolled back, and what follows them is not.
func writeSavepoints(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		one := func() error {
			return t.insert(ctx, Message{Topic: p.topic(), Key: p.key(p.rng.IntN(4)), Order: p.next()})
		}
		perhaps := func() error {
			if p.rng.IntN(2) == 0 {
				return errRollback
			}
			return nil
		}
		outer := func() error {
			err := one()
			if err == nil {
				err = t.savepoint(ctx, "deep", func() error { return errorsFirst(one(), perhaps) })
			}
			return errorsFirst(err, perhaps)
		}
		err := one()
		if err == nil {
			err = t.savepoint(ctx, "wide", outer)
		}
		if err == nil {
			err = one()
		}
		return errorsFirst(err, func() error {
			if p.rng.IntN(8) == 0 {
				return errRollback
			}
			return nil
		})
	})
}

// errorsFirst returns err, or else what then says.
func errorsFirst(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

// writeScheduled inserts a message that is due in a moment; it has no key, for time decides its place.
func writeScheduled(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		m := Message{ID: t.number * txMessages, Topic: p.topic()}
		t.at, t.messages = 1, append(t.messages, m)
		_, err := conn.Exec(ctx, "SELECT postrider.enqueue($1, $2::text::jsonb, deliver_at => now() + $3 * interval '1 ms')",
			m.Topic, m.payload(), p.rng.IntN(1500))
		return err
	})
}

// writePrepared commits in two phases, with time to crash in between.
func writePrepared(p *producer, ctx context.Context, conn *pgx.Conn) error {
	var prepared *transaction
	name := fmt.Sprintf("'torture-%s-%d'", p.name, p.rng.Uint32())
	err := p.transactBy(ctx, conn, "PREPARE TRANSACTION "+name, func(t *tx) error {
		prepared = t.transaction
		return t.insert(ctx, Message{Topic: p.topic(), Key: p.key(0), Order: p.next()}, Message{Topic: p.topic()})
	})
	if err != nil {
		return err
	}
	// What transactBy recorded as committed is only prepared: from here on the database knows.
	end := "COMMIT PREPARED "
	if p.rng.IntN(3) == 0 {
		end = "ROLLBACK PREPARED "
	}
	pause(ctx, time.Duration(p.rng.IntN(400))*time.Millisecond)
	_, err = conn.Exec(ctx, end+name)
	p.history.amend(prepared, end, err)
	if err != nil {
		p.generation++
	}
	return err
}

// writeStrict keeps one order over all messages of its topic.
func writeStrict(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		return t.insert(ctx, Message{Topic: "strict.step", Key: p.key(0), Order: p.next()})
	})
}

// writePoison inserts a message that nobody accepts between two good ones of its key.
func writePoison(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		key := p.key(int(p.order))
		return t.insert(ctx,
			Message{Topic: "poison.pill", Key: key, Order: p.next()},
			Message{Topic: "poison.pill", Key: key, Order: p.next(), Poison: p.rng.IntN(4) == 0},
			Message{Topic: "poison.pill", Key: key, Order: p.next()})
	})
}

// writeClassed inserts messages of all priorities.
func writeClassed(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		key := p.key(p.rng.IntN(4))
		for range 1 + p.rng.IntN(4) {
			if err := t.insert(ctx, Message{Topic: "classed.x", Key: key, Order: p.next(), Class: 1 + p.rng.IntN(4)}); err != nil {
				return err
			}
		}
		return nil
	})
}

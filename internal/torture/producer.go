package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// statementTimeout bounds a producer's transaction, so that a half-open connection does not hold it for ever.
const statementTimeout = 60 * time.Second

// producers are applications: each has a connection, a kind of transaction and keys of its own.
type producers struct {
	history *history
	url     func() string
	rng     *rand.Rand

	halt context.CancelFunc
	done sync.WaitGroup
	// gate is held by each while it writes. Who locks it has silence.
	gate sync.RWMutex

	mu      sync.Mutex
	slowest time.Duration // of all statements that insert messages
	errs    []trouble
}

// trouble is a failure that a producer met: what it rests on happened after from, when all had been well, and before at.
type trouble struct {
	from, at time.Time
	err      error
}

// kind is a habit of applications.
type kind struct {
	name  string
	every time.Duration // pause between transactions, on average
	write func(*producer, context.Context, *pgx.Conn) error
}

// producer is one of them at work.
type producer struct {
	*producers
	kind
	name string
	rng  *rand.Rand
	// generation names the keys; order ascends within one. After a lost connection the keys are given up: an old transaction may
	// still be running, or prepared once more on another server, when the next one inserts.
	generation int
	order      int64
}

// start runs the kinds until stop; calm stretches their pauses.
func (p *producers) start(ctx context.Context, kinds []kind, calm float64) {
	ctx, p.halt = context.WithCancel(ctx)
	for i, k := range kinds {
		k.every = time.Duration(float64(k.every) * calm)
		one := &producer{producers: p, kind: k, name: fmt.Sprintf("%s%d", k.name, i), rng: rand.New(rand.NewPCG(p.rng.Uint64(), uint64(i)))}
		p.done.Go(func() { one.run(ctx) })
	}
}

// stop lets each finish the transaction that it is in.
func (p *producers) stop() {
	if p.halt != nil {
		p.halt()
	}
	p.done.Wait()
}

// run writes until ctx ends, on another connection whenever one breaks.
func (p *producer) run(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := connect(ctx, p.url())
		if err != nil {
			p.fail(err)
			pause(ctx, 50*time.Millisecond)
			continue
		}
		well := time.Now()
		for pause(ctx, time.Duration(p.rng.ExpFloat64()*float64(p.every))) {
			if err = p.once(ctx, conn); err != nil {
				break
			}
			well = time.Now()
		}
		p.failSince(well, err)
		closeConn(conn)
		p.generation++
	}
}

// once runs one transaction.
func (p *producer) once(ctx context.Context, conn *pgx.Conn) error {
	p.gate.RLock()
	defer p.gate.RUnlock()
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	return p.write(p, work, conn)
}

// fail takes a failure down; nil is none.
func (p *producers) fail(err error) { p.failSince(time.Now(), err) }

// failSince takes down a failure whose cause may be as old as from.
func (p *producers) failSince(from time.Time, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, trouble{from, time.Now(), err})
}

// took measures a statement that inserts messages: nothing of Postrider's may ever make it wait.
func (p *producers) took(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowest = max(p.slowest, d)
	if d > slowInsert {
		p.errs = append(p.errs, trouble{time.Now().Add(-d), time.Now(), errSlow(d)})
	}
}

// key is the producer's own nth key. Only this producer writes to it, one transaction after the other.
func (p *producer) key(n int) string { return fmt.Sprintf("%s/%d/%d", p.name, p.generation, n) }

// next is the next place in the order of the producer's own keys.
func (p *producer) next() int64 {
	p.order++
	return p.order
}

// topic picks one that several subscriptions want.
func (p *producer) topic() string {
	return []string{"orders.created", "orders.paid", "users.created", "users.deleted", "audit.login.failed"}[p.rng.IntN(5)]
}

// tx is a transaction in progress.
type tx struct {
	*transaction
	p    *producer
	conn *pgx.Conn
	at   int // position of the next message
}

// errRollback makes transact roll back.
var errRollback = errors.New("rolled back on purpose")

// transact runs one transaction and records how it ended.
func (p *producer) transact(ctx context.Context, conn *pgx.Conn, work func(*tx) error) error {
	return p.transactBy(ctx, conn, "COMMIT", work)
}

// transactBy is transact with another command in place of COMMIT.
func (p *producer) transactBy(ctx context.Context, conn *pgx.Conn, commit string, work func(*tx) error) error {
	t := &tx{transaction: p.history.begin(), p: p, conn: conn}
	t.server = conn.PgConn().Conn().RemoteAddr().String()
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	batch.Queue("INSERT INTO torture.tx (number) VALUES ($1)", t.number)
	err := conn.SendBatch(ctx, batch).Close()
	if err == nil {
		err = work(t)
	}
	if err != nil {
		p.history.end(t.transaction, answerRolledBack) // COMMIT was never sent
		if errors.Is(err, errRollback) {
			_, err = conn.Exec(ctx, "ROLLBACK")
		}
		return err
	}
	if _, err := conn.Exec(ctx, commit); err != nil {
		p.history.end(t.transaction, answerLost)
		p.generation++
		return err
	}
	p.history.end(t.transaction, answerCommitted)
	return nil
}

// insert adds messages, in one round trip.
func (t *tx) insert(ctx context.Context, messages ...Message) error {
	batch := &pgx.Batch{}
	for i := range messages {
		m := &messages[i]
		m.ID = t.number*txMessages + int64(t.at)
		t.at++
		var key any
		if m.Key != "" {
			key = m.Key
		}
		class := m.Class
		if class == 0 {
			class = 2 // the column's default
		}
		batch.Queue("INSERT INTO postrider.outbox (topic, key, payload, priority) VALUES ($1, $2, $3, $4)", m.Topic, key, m.payload(), class)
	}
	started := time.Now()
	if err := t.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	t.p.took(time.Since(started))
	t.messages = append(t.messages, messages...)
	return nil
}

// savepoint runs work in a savepoint. An errRollback from it rolls back to the savepoint and goes on.
func (t *tx) savepoint(ctx context.Context, name string, work func() error) error {
	if _, err := t.conn.Exec(ctx, "SAVEPOINT "+name); err != nil {
		return err
	}
	mark, calls, end := len(t.messages), len(t.calls), "RELEASE "
	err := work()
	if errors.Is(err, errRollback) {
		t.messages, t.calls, end, err = t.messages[:mark], t.calls[:calls], "ROLLBACK TO ", nil
	}
	if err == nil {
		_, err = t.conn.Exec(ctx, end+name)
	}
	return err
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}

// closeConn leaves politely, if the server still listens.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // an error means that it is closed already
}

// mark inserts a message for each subscription that is always there, and more for others: whoever gets nothing is saved once a
// minute, and holds a segment for as long.
func (p *producers) mark(ctx context.Context, more ...Message) error {
	conn, err := connect(ctx, p.url())
	if err != nil {
		return err
	}
	defer closeConn(conn)
	one := &producer{producers: p, name: "mark"}
	return one.transact(ctx, conn, func(t *tx) error {
		messages := more
		for _, topic := range []string{"orders.created", "users.created", "audit.login.failed", "strict.step", "poison.pill"} {
			messages = append(messages, Message{Topic: topic})
		}
		for _, m := range messages {
			m.Key, m.Order = fmt.Sprintf("mark/%d", t.number), one.next()
			if err := t.insert(ctx, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// slowInsert is more than any insert may take while nothing is done to the database.
const slowInsert = 2 * time.Second

// unexplained returns the producers' failures and slow inserts that no fault of the database explains: whatever happens to
// relays and destinations, applications must not notice.
func (p *producers) unexplained(incidents []Incident) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.errs {
		if !slices.ContainsFunc(incidents, func(i Incident) bool { return i.disturbsProducers(t.from, t.at) }) {
			list = append(list, fmt.Sprintf("a producer failed at %s, and nothing was done to the database: %v", clock(t.at), t.err))
		}
	}
	return list
}

// disturbsProducers reports whether an application may have failed between these times because of the incident.
func (i Incident) disturbsProducers(from, at time.Time) bool {
	return i.Hits == onDatabase && !at.Before(i.From) && !from.After(i.To.Add(moment))
}

// errSlow says that an insert took too long.
type errSlow time.Duration

// Error implements error.
func (e errSlow) Error() string {
	return fmt.Sprintf("an insert took %v", time.Duration(e).Round(time.Millisecond))
}

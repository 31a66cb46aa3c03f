package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/bench/system"
)

// Producer enqueues messages in transactions, over connections of its own.
type Producer struct {
	Database string
	// Enqueue is the system's.
	Enqueue func(ctx context.Context, tx pgx.Tx, messages []system.Message) error
	// Connections is how many there are. Default: 4.
	Connections int
	// Rows is the number of messages in a transaction. Default: 1.
	Rows int
	// Rate is the number of transactions a second; the schedule does not slip: a producer that is late does not wait. 0: no limit.
	Rate float64
	// Duration ends the schedule.
	Duration time.Duration
	// Topic of message n. Default: bench.t1 for all.
	Topic func(n int64) string
	// First is the number of the first message. Default: 1.
	First int64
}

// Produced is what a Producer did.
type Produced struct {
	Messages int64
	Time     time.Duration
	// Late is how far behind its schedule a transaction began at most.
	Late time.Duration
}

// Rate is in messages per second.
func (p Produced) Rate() float64 { return float64(p.Messages) / p.Time.Seconds() }

// Run produces until the duration is over or ctx ends, which is no error.
func (p Producer) Run(ctx context.Context, rec *Recorder) (Produced, error) {
	p.defaults()
	conns, err := p.connect(ctx)
	if err != nil {
		return Produced{}, err
	}
	defer func() {
		for _, c := range conns {
			_ = c.Close(context.WithoutCancel(ctx)) // it has nothing to say any more
		}
	}()
	run := &run{Producer: p, rec: rec, began: time.Now()}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, c := range conns {
		group.Go(func() error { return run.work(groupCtx, c) })
	}
	err = group.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	done := Produced{Messages: run.messages.Load(), Time: time.Since(run.began), Late: time.Duration(run.late.Load())}
	if err != nil {
		return done, fmt.Errorf("produce: %w", err)
	}
	return done, nil
}

func (p *Producer) defaults() {
	if p.Connections == 0 {
		p.Connections = 4
	}
	if p.Rows == 0 {
		p.Rows = 1
	}
	if p.First == 0 {
		p.First = 1
	}
	if p.Topic == nil {
		p.Topic = func(int64) string { return "bench.t1" }
	}
}

func (p *Producer) connect(ctx context.Context) (conns []*pgx.Conn, err error) {
	for range p.Connections {
		c, err := pgx.Connect(ctx, p.Database)
		if err != nil {
			return conns, fmt.Errorf("connect the producers: %w", err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// run is one Run.
type run struct {
	Producer
	rec                  *Recorder
	began                time.Time
	next, messages, late atomic.Int64
}

// work takes one transaction of the schedule after the other.
func (r *run) work(ctx context.Context, conn *pgx.Conn) error {
	messages := make([]system.Message, r.Rows)
	for {
		i := r.next.Add(1) - 1
		if !r.await(ctx, i) {
			return nil
		}
		for j := range messages {
			n := r.First + i*int64(r.Rows) + int64(j)
			messages[j] = system.Message{N: n, Topic: r.Topic(n)}
		}
		if err := r.transact(ctx, conn, messages); err != nil {
			return err
		}
	}
}

// await waits for the time of transaction i; false means that the schedule has ended.
func (r *run) await(ctx context.Context, i int64) bool {
	if r.Rate == 0 {
		return time.Since(r.began) < r.Duration && ctx.Err() == nil
	}
	at := time.Duration(float64(i) / r.Rate * float64(time.Second))
	if at >= r.Duration {
		return false
	}
	wait := at - time.Since(r.began)
	if wait <= 0 {
		for late := r.late.Load(); int64(-wait) > late && !r.late.CompareAndSwap(late, int64(-wait)); late = r.late.Load() {
		}
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

func (r *run) transact(ctx context.Context, conn *pgx.Conn, messages []system.Message) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if err := r.Enqueue(ctx, tx, messages); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	r.rec.Committed(messages[0].N, len(messages), time.Now())
	r.messages.Add(int64(len(messages)))
	return nil
}

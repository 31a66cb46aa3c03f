package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/outbox"
)

type Order struct {
	ID    int64   `json:"id"`
	Total float64 `json:"total"`
}

// An order and the message about it are committed together.
func ExampleEnqueue() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	order := Order{ID: 17, Total: 9.5}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders (id, total) VALUES ($1, $2)`, order.ID, order.Total); err != nil {
			return err
		}
		_, err := outbox.Enqueue(ctx, tx, outbox.Message{
			Topic:   "orders.created",
			Key:     fmt.Sprintf("order-%d", order.ID),
			Payload: order,
		})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}

	var topic, key, payload string
	err = conn.QueryRow(ctx, `SELECT topic, key, payload FROM postrider.outbox`).Scan(&topic, &key, &payload)
	fmt.Println(topic, key, payload, err)
	// Output: orders.created order-17 {"id": 17, "total": 9.5} <nil>
}

// Many messages take one round trip.
func ExampleEnqueueBatch() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		ids, err := outbox.EnqueueBatch(ctx, tx, []outbox.Message{
			{Topic: "orders.created", Key: "order-1", Payload: Order{ID: 1}},
			{Topic: "orders.created", Key: "order-2", Payload: json.RawMessage(`{"id": 2}`)},
			{Topic: "labels.printed", Body: []byte("%PDF-1.7"), Headers: map[string]string{"Content-Type": "application/pdf"}},
		})
		fmt.Println(ids)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: [1 2 3]
}

// The same with database/sql. What is rolled back is not delivered.
func ExampleEnqueueSQL() {
	ctx := context.Background()
	db, err := sql.Open("pgx", newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	id, err := outbox.EnqueueSQL(ctx, tx, outbox.Message{Topic: "orders.created", Payload: Order{ID: 17}})
	fmt.Println(id, err)
	fmt.Println(tx.Rollback())

	var n int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM postrider.outbox`).Scan(&n)
	fmt.Println(n, "messages", err)
	// Output:
	// 1 <nil>
	// <nil>
	// 0 messages <nil>
}

// An error about the message can be told from one of the database, and the transaction goes on.
func ExampleInvalidError() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(ctx, tx, outbox.Message{Topic: "orders.created", Key: "\xff", Payload: Order{ID: 17}})
		if invalid, ok := errors.AsType[*outbox.InvalidError](err); ok {
			fmt.Println(invalid.Field)
			fmt.Println(invalid.Problem)
			fmt.Println(invalid.Want)
		}
		_, err = outbox.Enqueue(ctx, tx, outbox.Message{Topic: "orders.rejected", Payload: "a key that is not text"})
		return err
	})
	fmt.Println(err)
	// Output:
	// Key
	// Key "\xff" is not valid UTF-8
	// give UTF-8, or put the bytes into Body
	// <nil>
}

// BEGIN was sent by hand.
func ExampleBegun() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	m := outbox.Message{Topic: "orders.created", Payload: Order{ID: 17}}
	_, err = outbox.Enqueue(ctx, outbox.Begun(conn), m)
	fmt.Println(err)

	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL SERIALIZABLE"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(outbox.Enqueue(ctx, outbox.Begun(conn), m))
	_, err = conn.Exec(ctx, "COMMIT")
	fmt.Println(err)
	// Output:
	// enqueue: no transaction is open on the connection: send BEGIN first, or use the Tx of its method Begin
	// 1 <nil>
	// <nil>
}

func ExampleWithTraceparent() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, newDatabase())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	// Such as the header of the request that is being served.
	ctx = outbox.WithTraceparent(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(ctx, tx, outbox.Message{Topic: "orders.created", Payload: Order{ID: 17}})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	var headers string
	err = conn.QueryRow(ctx, `SELECT headers FROM postrider.outbox`).Scan(&headers)
	fmt.Println(headers, err)
	// Output: {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} <nil>
}

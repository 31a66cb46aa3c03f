package natstest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Streams are seized and made again under load, full ones too: all that is confirmed is read.
func TestSeize(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	p := startPublishers(t, c)
	read := map[string]bool{}
	for round := range 5 {
		p.waitConfirmed(t, 2000)
		if round == 3 {
			if err := c.Limit(limited(t), "S", 1, -1); err != nil {
				t.Fatal(err)
			}
		}
		seizeInto(t, c, read)
		if _, err := c.js.Publish(limited(t), "s.x", nil, jetstream.WithRetryAttempts(0)); !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Errorf("publishing to no stream: %v", err)
		}
		create(t, c)
	}
	p.waitConfirmed(t, 100)
	seizeInto(t, c, read)
	p.end(t, read)
	if _, err := c.Seize(limited(t), "S", 0, func(Message) {}); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
}

// Part was read before, the rest comes with the seizure.
func TestSeizeTheRest(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	publish(t, c, 0, 20)
	n := 0
	if last, err := c.Seize(limited(t), "S", 15, func(m Message) {
		if n++; m.Subject != "s.x" || m.Seq <= 15 {
			t.Errorf("%+v", m)
		}
	}); err != nil || last < 20 || n != 5 {
		t.Error(last, n, err)
	}
}

func seizeInto(t testing.TB, c *Cluster, read map[string]bool) {
	t.Helper()
	if _, err := c.Seize(limited(t), "S", 0, func(m Message) {
		if read[string(m.Data)] {
			t.Errorf("%s twice", m.Data)
		}
		read[string(m.Data)] = true
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTap(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	seen := map[string]int{}
	tap, err := c.Tap(limited(t), "s.>", func(m Message) {
		if m.Subject != "s.x" || m.Header.Get("A") != "b" {
			t.Errorf("%+v", m)
		}
		seen[string(m.Data)]++
	})
	if err != nil {
		t.Fatal(err)
	}
	send := func(id string) error {
		_, err := c.js.PublishMsg(limited(t), &nats.Msg{Subject: "s.x", Header: nats.Header{"A": {"b"}, jetstream.MsgIDHeader: {id}}, Data: []byte(id)})
		return err
	}
	for i := range 1000 {
		if err := send(fmt.Sprint(i % 500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Restart(limited(t), 0); err != nil {
		t.Fatal(err)
	}
	if err := flush(limited(t), tap.conn); err != nil {
		t.Fatal(err)
	}
	if err := flush(limited(t), c.conn); err != nil {
		t.Fatal(err)
	}
	if err := c.Limit(limited(t), "S", 1, -1); err != nil {
		t.Fatal(err)
	}
	if err := send("refused"); err == nil {
		t.Error("a full stream took a message")
	}
	if err := tap.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	if seen["0"] != 2 || seen["499"] != 2 || seen["refused"] != 1 || len(seen) != 501 {
		t.Errorf("seen %v", seen)
	}
}

package natstest

import (
	"context"
	"testing"
	"time"
)

// A cluster of three goes through everything under load, with nothing lost.
func TestThree(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	if len(c.URLs()) != 3 {
		t.Fatal(c.URLs())
	}
	p := startPublishers(t, c)
	read := map[string]bool{}
	p.waitConfirmed(t, 1000)

	stopped, err := c.StopLeader(limited(t), "S")
	if err != nil || c.Running(stopped) {
		t.Fatal(stopped, err)
	}
	p.waitConfirmed(t, 1000)
	if leader, err := c.Leader(limited(t), "S"); err != nil || leader == stopped {
		t.Fatalf("%d leads after %d was stopped, %v", leader, stopped, err)
	}
	if err := c.StartServer(limited(t), stopped); err != nil {
		t.Fatal(err)
	}
	p.waitConfirmed(t, 1000)

	led, err := c.StepDown(limited(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	p.waitConfirmed(t, 1000)
	t.Logf("%d was stopped, %d stepped down", stopped, led)

	for range 2 {
		seizeInto(t, c, read)
		create(t, c)
		p.waitConfirmed(t, 1000)
	}
	seizeInto(t, c, read)
	p.end(t, read)
	majorityLost(t, c)
}

// majorityLost checks that without a majority nothing is confirmed, and starting a server does not wait for what cannot be.
func majorityLost(t *testing.T, c *Cluster) {
	create(t, c)
	publish(t, c, 0, 100)
	for i := range 3 {
		c.StopServer(i)
	}
	if err := c.StartServer(limited(t), 2); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.js.Publish(ctx, "s.x", nil); err == nil {
		t.Error("one server of three confirmed a message")
	}
	if err := c.ReadAll(ctx, "S", func(Message) {}); err == nil {
		t.Error("one server of three answered for the stream")
	}
}

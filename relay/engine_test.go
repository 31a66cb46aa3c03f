package relay

import (
	"testing"
)

func TestDeliversInEveryMode(t *testing.T) {
	for _, source := range []Source{SourceStream, SourceTimer, SourceListen} {
		t.Run(string(source), func(t *testing.T) {
			b := newBench(t)
			if source == SourceListen {
				b.exec("SELECT postrider.enable_notify()")
			}
			all := b.subscribe("all", "{>}", "{}", "now")
			orders := b.subscribe("orders", "{orders.*}", "{}", "now")
			before := b.publish("orders.created", "k1", `{"n": 1}`, `{"n": 2}`)
			r := b.start(func(c *Config) { c.Source = source })
			eventually(t, "what was published before the start is delivered", func() bool { return all.count() == 2 && orders.count() == 2 })
			after := b.publish("orders.paid", "k1", `{"n": 3}`)
			b.publish("other", "", `{"n": 4}`)
			eventually(t, "what was published live is delivered", func() bool { return all.count() == 4 && orders.count() == 3 })
			if err := r.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			r.stop()
			if r.err != nil {
				t.Fatalf("run: %v", r.err)
			}
			want := append(before, after...)
			for i, id := range orders.rows() {
				if id != want[i] {
					t.Errorf("delivery %d is row %d, want %d", i, id, want[i])
				}
			}
			if n := scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status <> 'delivered'"); n != 0 {
				t.Errorf("%d deliveries are not shown as delivered", n)
			}
			if n := scalar[int](b, "SELECT count(*) FROM postrider.relays"); n != 0 {
				t.Errorf("%d relays left after a clean stop", n)
			}
		})
	}
}

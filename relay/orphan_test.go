package relay

import (
	"testing"

	"github.com/postrider/postrider/relay/subscription"
)

// mate registers a relay that has room and no process.
const mate = "INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '00000000-0000-0000-0000-000000000001', 'mate', 'x')"

// cared says whether somebody delivers the subscription, or may begin to.
func (b *bench) cared(r *running, name string) func() bool {
	return func() bool {
		return r.now.Load().running()[subscription.Whole(name)] != nil || scalar[bool](b, "SELECT owner IS NULL FROM postrider.cursors WHERE subscription = $1", name)
	}
}

// A relay lets a cursor go that a command has made it drop when it has no room for it any more.
func TestChangedSubscriptionIsFreeForAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("one", "{>}", "{}", "now")
	b.subscribe("two", "{>}", "{}", "now")
	r, g := b.startWatched(named("us"), func(c *Config) { c.Lease = patience * 2 })
	eventually(t, "it owns both", func() bool { return b.owned("us") == 2 && g.logged("delivering") == 2 })
	old := r.now.Load().running()[subscription.Whole("two")]
	b.Exec("BEGIN; " + mate + "; SELECT postrider.replay('two', 'earliest'); COMMIT")
	eventually(t, "the change is noticed", func() bool { return r.now.Load().running()[subscription.Whole("two")] != old })
	eventually(t, "its cursor is free", b.cared(r, "two"))
	eventually(t, "the other subscription is delivered, or free", b.cared(r, "one"))
}

// A cursor that is a relay's own without being delivered is taken up again, also beyond the fair share.
func TestOwnCursorIsTakenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("one", "{>}", "{}", "now")
	b.subscribe("two", "{>}", "{}", "now")
	b.Exec(mate)
	r := b.start(named("us"), func(c *Config) { c.Lease = patience * 2 })
	eventually(t, "it owns its share", func() bool { return b.owned("us") == 1 })
	free := scalar[string](b, "UPDATE postrider.cursors SET owner = (SELECT incarnation FROM postrider.relays WHERE name = 'us') WHERE owner IS NULL RETURNING subscription")
	eventually(t, "its cursor is taken up, or free", b.cared(r, free))
}

package main

import "context"

// play leaves everything running until ctx is cancelled and says how to reach it.
func (d *demo) play(ctx context.Context) {
	d.print(
		"Everything is still running, until Ctrl-C. Try this in another terminal:", "",
		"  psql '"+d.db.url("postgres")+"'",
		`    SELECT postrider.enqueue('orders.test', '{"hello": "world"}', 'some-key');`,
		"    SELECT * FROM postrider.subscription_status;", "",
		"  nats --server "+d.nats.server.ClientURL()+" stream view "+natsStream, "",
		"  export POSTRIDER_DATABASE_URL='"+d.db.url("relay")+"'",
		"  "+d.relay.binary+" status     # and --help",
		"  tail -f "+d.relay.log, "",
		"What arrives is shown here:", "")
	d.playing.Store(true)
	<-ctx.Done()
	d.say("stopping …")
}

// arrived shows a message that the user has sent.
func (d *demo) arrived(subscription, topic, wire string) {
	if d.playing.Load() {
		d.say("%-10s  received %s (%s)", subscription, topic, wire)
	}
}

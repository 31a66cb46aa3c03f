package api

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/watch"
)

// Who waits for a message is woken when the feed tells that it is settled, and by nothing else that it tells.
func TestTheFeedWakesWhoWaits(t *testing.T) {
	feed := &watch.Feed{}
	defer feed.Join()()
	a := &API{Config: Config{Feed: feed}}
	woken := make(chan uint64)
	at := feed.Position()
	go func() { woken <- a.pause(t.Context(), &show{ID: 7, Subscription: "mail"}, at, 24*time.Hour) }()
	tell := func(c watch.Change) {
		_, before, _, newer := feed.Next(feed.Position())
		feed.Tell(c)
		<-newer // it is published, by itself
		if after := feed.Position(); after != before+1 {
			t.Fatalf("the feed is at %d, want %d", after, before+1)
		}
	}
	for _, other := range []watch.Change{{ID: 8, Subscription: "mail", Status: "delivered"}, {ID: 7, Subscription: "work", Status: "dead"}, {ID: 7, Subscription: "mail", Status: "retrying"}} {
		tell(other)
	}
	tell(watch.Change{ID: 7, Subscription: "mail", Status: "delivered"})
	if got := <-woken; got != at+4 {
		t.Errorf("woken by what is told before %d, want %d", got, at+4)
	}
}

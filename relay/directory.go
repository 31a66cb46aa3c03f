package relay

import (
	"context"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/watch"
)

// API is where workers can ask this process for what its relay delivers.
type API struct {
	// URL is where other relays reach it, empty if they cannot.
	URL string
	// Watch is told what becomes of messages while somebody listens; nil: nobody can.
	Watch *watch.Feed
}

// Directory says who delivers what, as it was a moment ago.
type Directory struct {
	// Me is this relay's incarnation.
	Me string
	// Key is what relays know each other by.
	Key []byte
	// Places are the subscriptions, by name.
	Places map[string]Place

	next chan struct{} // closed when there is a newer one
}

// Place is where a subscription is delivered from.
type Place = store.Place

// patienceWithNews is how long a name that nobody knows may still become known: it may be that of a subscription that was just made.
const patienceWithNews = 3 * time.Second

// Directory returns what is known, nil before anything is. It waits a moment for a name that is not known yet.
func (r *Relay) Directory(ctx context.Context, names ...string) *Directory {
	ctx, cancel := context.WithTimeout(ctx, patienceWithNews)
	defer cancel()
	for look := 0; ; look++ {
		g := r.now.Load()
		if g == nil {
			return nil
		}
		d := g.polls.directory.Load()
		if d == nil || look == 2 || d.hasAll(names) {
			return d
		}
		if g.polls.mayLookSooner(time.Now()) {
			async.Signal(g.repoll)
		}
		select {
		case <-d.next:
		case <-ctx.Done():
			return d
		}
	}
}

// soonest is how often names that nobody knows make a relay look sooner: a worker that asks for one over and over costs no more.
const soonest = time.Second

func (p *polls) mayLookSooner(now time.Time) bool {
	last := p.sooner.Load()
	return (last == nil || now.Sub(*last) >= soonest) && p.sooner.CompareAndSwap(last, &now)
}

func (d *Directory) hasAll(names []string) bool {
	for _, name := range names {
		if _, known := d.Places[name]; !known {
			return false
		}
	}
	return true
}

// readDirectory looks at who delivers what, where anybody asks.
func (o *owner) readDirectory(ctx context.Context, p peers) error {
	if o.config.API == nil {
		return nil
	}
	old := o.polls.directory.Load()
	d := &Directory{Me: o.incarnation, next: make(chan struct{})}
	var err error
	if old != nil {
		d.Key = old.Key
	} else if d.Key, err = o.registry().Key(ctx); err != nil {
		return err
	}
	if d.Places, err = o.registry().Places(ctx); err != nil {
		return err
	}
	o.polls.directory.Store(d)
	if old != nil {
		close(old.next)
	}
	o.warnUnreached(d, len(p.counters))
	return nil
}

// warnUnreached says, once, that workers who ask another relay are not served.
func (o *owner) warnUnreached(d *Directory, relays int) {
	if relays < 2 || o.config.API.URL != "" || o.polls.warned {
		return
	}
	for name, at := range d.Places {
		if at.Scheme == "pull" {
			o.polls.warned = true
			o.log.Warn("workers that ask another relay cannot be served from here: set POSTRIDER_API_URL to where relays reach this one's POSTRIDER_API_ADDR", "subscription", name)
			return
		}
	}
}

// watch is who listens, nil if nobody can.
func (c *Config) watch() *watch.Feed {
	if c.API == nil {
		return nil
	}
	return c.API.Watch
}

// url is where other relays reach this process, nil if they cannot.
func (c *Config) url() *string {
	if c.API == nil || c.API.URL == "" {
		return nil
	}
	return &c.API.URL
}

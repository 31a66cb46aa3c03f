package events

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/hop"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/watch"
)

// recent is a status that all who ask at about the same time share.
type recent struct {
	read func(ctx context.Context) (*admin.StatusReport, error)

	mu     sync.Mutex
	report *admin.StatusReport
	all    []byte // its subscriptions as JSON, for all who ask for no certain one
	err    error  // why there is none
	at     time.Time
}

const freshFor = time.Second

func (r *recent) get(ctx context.Context) (*admin.StatusReport, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < freshFor { // of a failure, too: else all who wait would fail one after the other
		return r.report, r.all, r.err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	r.all = nil
	if r.report, r.err = r.read(ctx); r.err == nil {
		r.all, r.err = json.Marshal(r.report.Subscriptions)
	}
	r.at = time.Now()
	return r.report, r.all, r.err
}

// attendant does, while somebody listens, what is done once for all.
type attendant struct {
	h *Handler

	mu        sync.Mutex
	listeners int
	stop      context.CancelFunc
}

// join makes sure that there is an attendant until leave is called. What the first one compares with was read before anybody's snapshot.
func (a *attendant) join(ctx context.Context) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listeners++; a.listeners == 1 {
		known := map[string][]byte{}
		if report, _, err := a.h.status.get(ctx); err == nil {
			a.compare(report, known, func(watch.Change) {})
		}
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		a.stop = stop
		go a.attend(own, known)
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.listeners--; a.listeners == 0 {
			a.stop()
		}
	}
}

const attendEvery = 2 * time.Second

func (a *attendant) attend(ctx context.Context, known map[string][]byte) {
	links := map[string]context.CancelFunc{}
	t := time.NewTicker(attendEvery)
	defer t.Stop()
	for {
		a.link(ctx, links)
		if report, _, err := a.h.status.get(ctx); err == nil {
			a.compare(report, known, a.h.Feed.Tell)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// compare tells what has changed about subscriptions.
func (a *attendant) compare(report *admin.StatusReport, known map[string][]byte, tell func(watch.Change)) {
	there := make(map[string]bool, len(report.Subscriptions))
	for _, s := range report.Subscriptions {
		there[s.Name] = true
		own := s
		own.SavedAt, own.LagSeconds = time.Time{}, 0 // these change by themselves
		was, err := json.Marshal(own)
		if err != nil || bytes.Equal(was, known[s.Name]) {
			continue
		}
		known[s.Name] = was
		if about, err := json.Marshal(s); err == nil {
			tell(watch.Change{Subscription: s.Name, About: about})
		}
	}
	for name := range known {
		if !there[name] {
			delete(known, name)
			if about, err := json.Marshal(map[string]string{"name": name, "state": "removed"}); err == nil {
				tell(watch.Change{Subscription: name, About: about})
			}
		}
	}
}

// link keeps a connection to each other relay that delivers something.
func (a *attendant) link(ctx context.Context, links map[string]context.CancelFunc) {
	d := a.h.Directory(ctx)
	if d == nil {
		return
	}
	there := map[string]bool{}
	for _, at := range d.Places {
		if at.Owner == "" || at.Owner == d.Me || at.URL == "" || there[at.Owner] {
			continue
		}
		there[at.Owner] = true
		if links[at.Owner] == nil {
			own, cancel := context.WithCancel(ctx)
			links[at.Owner] = cancel
			go a.follow(own, at)
		}
	}
	for owner, cancel := range links {
		if !there[owner] {
			cancel()
			delete(links, owner)
		}
	}
}

// follow passes on what another relay tells, until it is gone.
func (a *attendant) follow(ctx context.Context, at relay.Place) {
	for lost := false; ctx.Err() == nil; lost = true {
		if lost { // what happened meanwhile is not known
			a.h.Feed.Miss()
		}
		a.read(ctx, at)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// client has no time limit: what it reads never ends.
var client = &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 5 * time.Second, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (a *attendant) read(ctx context.Context, at relay.Place) {
	d := a.h.Directory(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(at.URL, "/")+Path, nil)
	if err != nil || d == nil {
		return
	}
	req.Header.Set(access.RelayHeader, hop.Header(d.Key, "events", at.Owner, nil))
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return
	}
	silent := time.AfterFunc(3*keepAlive, func() { res.Body.Close() })
	defer silent.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 0, 16<<10), 1<<20)
	kind := ""
	for lines.Scan() {
		silent.Reset(3 * keepAlive)
		line := lines.Bytes()
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "event":
			kind = string(value)
		case "data":
			a.passOn(kind, value)
			kind = ""
		}
	}
}

func (a *attendant) passOn(kind string, data []byte) {
	switch kind {
	case "gap":
		a.h.Feed.Miss()
	case "change":
		var c watch.Change
		if json.Unmarshal(data, &c) == nil {
			c.Foreign = true
			a.h.Feed.Tell(c)
		}
	}
}

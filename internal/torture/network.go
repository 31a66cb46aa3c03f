package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/linktest"
)

// network is what lies between one relay and the database, a link to each server or to the pooler; or between a worker and the relays.
type network []*linktest.Link

// connectRelay makes the network of another relay and returns the connection string that leads through it.
func (w *world) connectRelay() (url string, err error) {
	var ends []string
	if w.db.pooler != nil {
		ends = append(ends, fmt.Sprintf("127.0.0.1:%d", w.db.pooler.Port()))
	} else {
		for _, s := range w.db.servers {
			ends = append(ends, hostOf(s))
		}
	}
	var n network
	var addrs []string
	for _, end := range ends {
		link, err := linktest.Start(end)
		if err != nil {
			return "", err
		}
		w.undo = append(w.undo, func() error { link.Stop(); return nil })
		n, addrs = append(n, link), append(addrs, link.Addr())
	}
	w.links = append(w.links, n)
	url = urlOf("relay", addrs...)
	if w.db.pooler != nil {
		url += "&default_query_exec_mode=exec"
	}
	return url, nil
}

// some returns the links of one relay, or of all.
func (w *world) some(rng *rand.Rand) (n network) {
	if rng.IntN(3) > 0 {
		return w.links[rng.IntN(len(w.links))]
	}
	for _, one := range w.links {
		n = append(n, one...)
	}
	return n
}

func (n network) each(do func(*linktest.Link)) {
	for _, l := range n {
		do(l)
	}
}

func (n network) slow(latency, jitter time.Duration, bytesPerSecond int64) (err error) {
	for _, l := range n {
		err = errors.Join(err, l.Slow(latency, jitter, bytesPerSecond))
	}
	return err
}

func (n network) heal() (err error) {
	for _, l := range n {
		err = errors.Join(err, l.Heal())
	}
	return err
}

// handsOver says whether something in the round may make one relay go on where another one has not saved.
func (w *world) handsOver() bool {
	for _, f := range w.chosen() {
		if f.Hits == onRelay {
			return true
		}
	}
	return w.Relays > 1
}

// exitTime is how long a process may take to end, and to be missed, on a busy machine.
const exitTime = 5 * time.Second

// supervise starts a relay again that has ended for the one reason for which it may: it was asked for the stream by name, and
// found no publication.
func (w *world) supervise(r *relay, err error) {
	missing := w.publication.faults.Load() > 0 || time.Since(time.Unix(0, w.publication.since.Load())) < exitTime
	if !missing || !strings.Contains(err.Error(), "publication postrider is missing") {
		w.fail(err)
		return
	}
	w.say("relay %s ended: there is no publication; it is started once there is", r.name)
	w.fail(poll(context.Background(), time.Minute, func() error {
		if w.publication.faults.Load() > 0 {
			return err
		}
		return r.start()
	}))
}

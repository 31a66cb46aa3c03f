package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/watch"
)

// Waiting for a message. Whoever waits has no connection to the database meanwhile: this relay's feed tells of what it delivers, and what others
// deliver, or workers take in SQL, is looked at again and again, ever less often, and the less the more wait.
const (
	longestWait = 30 * time.Second
	firstPause  = 20 * time.Millisecond
	mostPause   = 500 * time.Millisecond
	pauseEach   = 10 * time.Millisecond // for each who waits
	mostLooking = 2                     // of those who wait, at once: others look, too
)

// show is what a message is asked for with.
type show struct {
	ID           int64  `path:"id" doc:"The message's id." example:"42"`
	Subscription string `query:"subscription" doc:"For this subscription alone."`
	Wait         string `query:"wait" doc:"How long the answer may wait until the message is settled: delivered, dead, discarded or cancelled, for all that it is asked for. Up to 30s." example:"30s"`
}

func (s *show) wait() (time.Duration, error) {
	if s.Wait == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(s.Wait)
	if err != nil || wait < 0 || wait > longestWait {
		return 0, problem.New(http.StatusBadRequest, "invalid_request", "query.wait %.100q: must be a time from 0s to %s, such as 10s", s.Wait, longestWait)
	}
	return wait, nil
}

// showMessages is the operation that shows a message.
func (a *API) showMessages() {
	o := operation{need: access.Viewer, method: http.MethodGet, path: "/messages/{id}", id: "get-message", tag: messageTag,
		summary: "A message, where it stands for each subscription, and its attempts", description: "content is null where the message has left the log, or where viewers may not see it. With wait the answer comes once the message is settled, or tells after that time where it stands then."}
	huma.Register(a.huma, o.describe(), func(ctx context.Context, in *show) (*answer[admin.Deliveries], error) {
		wait, err := in.wait()
		if err != nil {
			return nil, err
		}
		m, err := a.await(ctx, o, in, wait)
		if err != nil {
			return nil, err
		}
		if a.HidePayloads && !access.Of(ctx).May(access.Operator) {
			m.Content = nil
			for i := range m.List {
				m.List[i].Result = nil // it may hold the same
			}
		}
		return &answer[admin.Deliveries]{*m}, nil
	})
}

// await shows a message once it is settled, or after a time.
func (a *API) await(ctx context.Context, o operation, in *show, wait time.Duration) (*admin.Deliveries, error) {
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var at uint64
	if wait > 0 { // from before the first look on: nothing is missed
		defer a.Feed.Join()()
		at = a.Feed.Position()
		a.waiting.Add(1)
		defer a.waiting.Add(-1)
	}
	m := &admin.Deliveries{}
	err := a.lend(ctx, o, func(ctx context.Context, db *dbconn.Conn) (err error) {
		*m, err = admin.ShowMessage(ctx, db, in.ID, in.Subscription)
		return err
	})
	for pause := firstPause; err == nil && !m.Settled(); pause = min(2*pause, mostPause) {
		at = a.pause(bounded, in, at, max(pause, time.Duration(a.waiting.Load())*pauseEach))
		if !a.mayLook(bounded) {
			return m, ctx.Err()
		}
		content := m.Content // that stays as it is
		err = a.lend(ctx, o, func(ctx context.Context, db *dbconn.Conn) (err error) {
			*m, err = admin.ShowDeliveries(ctx, db, in.ID, in.Subscription)
			return err
		})
		m.Content = content
		<-a.looking
	}
	return m, err
}

// pause returns when the feed tells that the message is settled for a subscription that is asked about, or after a time. at is where it reads on.
func (a *API) pause(ctx context.Context, in *show, at uint64, most time.Duration) uint64 {
	f := watch.Filter{IDs: []int64{in.ID}, Statuses: admin.SettledStatuses}
	if in.Subscription != "" {
		f.Subscriptions = []string{in.Subscription}
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		batches, next, _, newer := a.Feed.Next(at) // what was missed shows at the next look
		for _, b := range batches {
			for i := range b.Events {
				if b.First+uint64(i) >= at && f.Wants(&b.Events[i].Change) {
					return next
				}
			}
		}
		if at = next; newer == nil {
			continue
		}
		select {
		case <-newer:
		case <-timer.C:
			return at
		case <-ctx.Done():
			return at
		case <-a.Stopping:
			return at
		}
	}
}

// mayLook waits for a turn to look, which whoever looks gives back. It says false when there is none any more.
func (a *API) mayLook(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case <-a.Stopping:
		return false
	default:
	}
	select {
	case a.looking <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-a.Stopping:
	}
	return false
}

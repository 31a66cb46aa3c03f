package jobs

import (
	"net/http"

	"github.com/postrider/postrider/internal/api/access"
)

// enter checks that who calls may work for these subscriptions. A call that another relay passes on was checked there. Workers of
// different tokens are different workers, whatever they call themselves: none can end what another one has.
func (c *caller) enter(r *http.Request, hop bool, names func() []string) error {
	if hop {
		return nil
	}
	who := access.Of(r.Context())
	if who.Subscriptions != nil {
		for _, name := range names() {
			if !who.MayWork(name) {
				return who.WrongSubscription(name)
			}
		}
	}
	if !who.Local && c.Worker != "" {
		c.Worker = who.Name + "/" + c.Worker
	}
	return nil
}

func (t *takePart) names() []string {
	names := make([]string, len(t.From))
	for i, f := range t.From {
		names[i] = f.Subscription
	}
	return names
}

func (s *settleRequest) names() (names []string) {
	for _, i := range s.Items {
		names = append(names, i.Subscription)
	}
	if s.Take != nil {
		names = append(names, s.Take.names()...)
	}
	return names
}

func (b *beatRequest) names() (names []string) {
	for _, p := range b.Progress {
		names = append(names, p.Subscription)
	}
	return names
}

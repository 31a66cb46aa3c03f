package jobs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay"
)

// places say where subscriptions are delivered from: nil in place of a peer means here.
type places struct {
	h   *Handler
	d   *relay.Directory
	hop bool // the call was passed on already
}

// look finds where these subscriptions are.
func (h *Handler) look(ctx context.Context, hop bool, names ...string) (*places, error) {
	var ask []string
	for _, name := range names {
		if !h.hub.Has(name) {
			ask = append(ask, name)
		}
	}
	d := h.directory(ctx, ask...)
	if d == nil {
		err := problem.New(http.StatusServiceUnavailable, "relay_unsure", "this relay has not found out yet what there is to deliver")
		err.RetryAfter = 1
		return nil, err
	}
	return &places{h, d, hop}, nil
}

// of returns who has the subscription, nil for this relay, which has it too while nobody does.
func (p *places) of(name string) (*peer, error) {
	if p.h.hub.Has(name) {
		return nil, nil
	}
	at, known := p.d.Places[name]
	switch {
	case !known:
		return nil, p.unknown(name)
	case at.Scheme != "pull":
		how := "messages are sent to it, and no worker takes them: ask for a subscription whose sink is pull:"
		if at.Scheme == "sql" {
			how = "workers take its messages in the database, by postrider.take"
		}
		return nil, problem.New(http.StatusConflict, "not_pull", "subscription %q has a sink that begins with %s:, and %s", name, at.Scheme, how)
	case at.Owner == "" || at.Owner == p.d.Me:
		return nil, nil
	case p.hop:
		return nil, moving(name)
	case at.URL == "":
		return nil, problem.New(http.StatusMisdirectedRequest, "not_owner",
			"subscription %q is delivered by relay %q, which this one cannot reach: ask that one, or set POSTRIDER_API_URL there", name, at.Name)
	}
	return &peer{p.h.client, p.d.Key, at.Owner, at.Name, at.URL}, nil
}

func (p *places) unknown(name string) error {
	var pulls []string
	for other, at := range p.d.Places {
		if at.Scheme == "pull" {
			pulls = append(pulls, other)
		}
	}
	slices.Sort(pulls)
	hint := "there is none whose sink is pull: yet"
	if len(pulls) > 0 {
		hint = "workers can ask for " + strings.Join(pulls[:min(len(pulls), 20)], ", ")
		if near := strict.Nearest(name, pulls); near != "" {
			hint = fmt.Sprintf("did you mean %q? ", near) + hint
		}
	}
	return problem.New(http.StatusNotFound, "unknown_subscription", "subscription %.100q does not exist: %s", name, hint)
}

// others are the relays that have something for workers.
func (p *places) others() []*peer {
	found := make(map[string]*peer)
	for _, at := range p.d.Places {
		if at.Scheme == "pull" && at.Owner != p.d.Me && at.URL != "" {
			found[at.Owner] = &peer{p.h.client, p.d.Key, at.Owner, at.Name, at.URL}
		}
	}
	return slices.Collect(maps.Values(found))
}

// part is what of a call concerns one relay.
type part[T any] struct {
	at    *peer // nil: this one
	items []T
	index []int // of the items in the call
}

// split parts a call by relay, in the order in which they come first. What nobody can be asked about now is left out, and trouble says why.
func split[T any](p *places, items []T, name func(T) string) (parts []part[T], trouble, err error) {
	for i, item := range items {
		at, err := p.of(name(item))
		if err != nil && !passes(err) {
			return nil, nil, err
		}
		if err != nil {
			trouble = cmp.Or(trouble, err)
			continue
		}
		where := slices.IndexFunc(parts, func(x part[T]) bool {
			return (at == nil) == (x.at == nil) && (at == nil || at.incarnation == x.at.incarnation)
		})
		if where < 0 {
			where = len(parts)
			parts = append(parts, part[T]{at: at})
		}
		parts[where].items = append(parts[where].items, item)
		parts[where].index = append(parts[where].index, i)
	}
	return parts, trouble, nil
}

package delivery

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// Filter decides which messages a subscription gets: topics before a change apply to what their snapshot sees.
type Filter struct {
	regex     string // matches whatever any of the topic lists matches
	current   *topic.Matcher
	class     int16                 // of the messages; 0 for all
	wanted    *expression.Program   // which of them are wanted beside; nil: all. It is asked by the runner: see filtering.go
	per       *expression.Program   // by what limits tell them apart; nil: by their keys, by a header, or not
	transform *expression.Transform // what is delivered instead of them; nil: they are
	earlier   []earlierTopics
}

type earlierTopics struct {
	match *topic.Matcher
	until snapshot.Snapshot
}

func (f *Filter) wants(r *message.Row) bool {
	if f.class != 0 && f.class != r.Priority {
		return false
	}
	for _, e := range f.earlier {
		if e.until.Sees(r.XID) {
			return e.match.Match(r.Topic)
		}
	}
	return f.current.Match(r.Topic)
}

// of is the filter for the messages of one class.
func (f *Filter) of(class int16) *Filter {
	if class == 0 {
		return f
	}
	of := *f
	of.class = class
	return &of
}

// NewFilter makes the filter of a cursor's topics and of those before changes that some class's base does not cover yet.
func NewFilter(c store.Cursor, more ...store.Cursor) (*Filter, error) {
	current, err := topic.NewMatcher(c.Sub.Topics)
	if err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	f := &Filter{current: current}
	if text := c.Sub.Settings.Filter; text != "" {
		if f.wanted, err = expression.Filter(text); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
	}
	if f.transform, err = c.Sub.Settings.Transform.Compiled(); err != nil {
		return nil, fmt.Errorf("transform.%w", err)
	}
	if text := c.Sub.Settings.Limits.Per.Expression(); text != "" {
		if f.per, err = expression.Name(text); err != nil {
			return nil, fmt.Errorf("limits.per.by cel: %w", err)
		}
	}
	patterns := append([]string{}, c.Sub.Topics...)
	var earlier []struct {
		Topics []string `json:"topics"`
		Until  string   `json:"until"`
	}
	if err := json.Unmarshal(c.Earlier, &earlier); err != nil {
		return nil, fmt.Errorf("earlier topics %s: %w", c.Earlier, err)
	}
	for _, e := range earlier {
		until, err := snapshot.Parse(e.Until)
		if err != nil {
			return nil, fmt.Errorf("earlier topics: %w", err)
		}
		match, err := topic.NewMatcher(e.Topics)
		if err != nil {
			return nil, fmt.Errorf("earlier topics: %w", err)
		}
		if slices.ContainsFunc(append(more, c), func(c store.Cursor) bool { return !c.Position.Base.Covers(until) }) {
			f.earlier = append(f.earlier, earlierTopics{match, until})
			patterns = append(patterns, e.Topics...)
		}
	}
	f.regex = topic.Regex(patterns)
	return f, nil
}

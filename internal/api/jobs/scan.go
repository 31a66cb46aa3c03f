package jobs

import (
	"encoding/json"

	"github.com/postrider/postrider/internal/jsonscan"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// scanned are requests that are read the quick way, as long as there is nothing about them that needs a word. Their strings are parts of the body.
type scanned interface {
	// member reads the value of a member.
	member(s *jsonscan.Scanner, name string)
}

var (
	_ scanned = (*takeRequest)(nil)
	_ scanned = (*settleRequest)(nil)
	_ scanned = (*beatRequest)(nil)
)

// scan says whether it has understood all of the body.
func scan(body string, into scanned) bool {
	s := jsonscan.Scanner{Text: body}
	for s.Open('{'); s.Next('}'); {
		into.member(&s, s.Key())
	}
	return s.Done()
}

func (c *caller) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "worker":
		c.Worker = s.String()
	case "incarnation":
		c.Incarnation = s.String()
	case "holding":
		c.Holding = []held{}
		for s.Open('['); s.Next(']'); {
			c.Holding = append(c.Holding, held{})
			own := &c.Holding[len(c.Holding)-1]
			for s.Open('{'); s.Next('}'); {
				own.member(s, s.Key())
			}
		}
	default:
		s.GiveUp()
	}
}

func (h *held) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "subscription":
		h.Subscription = s.String()
	case "id":
		h.ID = s.Int()
	case "token":
		h.Token = s.String()
	default:
		s.GiveUp()
	}
}

func (q *takeRequest) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "from", "wait":
		q.takePart.member(s, name)
	default:
		q.caller.member(s, name)
	}
}

func (t *takePart) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "from":
		t.From = []want{}
		for s.Open('['); s.Next(']'); {
			t.From = append(t.From, want{})
			t.From[len(t.From)-1].scan(s)
		}
	case "wait":
		scanDuration(s, &t.Wait)
	default:
		s.GiveUp()
	}
}

func (w *want) scan(s *jsonscan.Scanner) {
	for s.Open('{'); s.Next('}'); {
		switch s.Key() {
		case "subscription":
			w.Subscription = s.String()
		case "max":
			w.Max = int(s.Int())
		default:
			s.GiveUp()
		}
	}
}

func scanDuration(s *jsonscan.Scanner, d *sinks.Duration) {
	if d.UnmarshalText([]byte(s.String())) != nil {
		s.GiveUp()
	}
}

func (q *settleRequest) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "items":
		q.Items = []item{}
		for s.Open('['); s.Next(']'); {
			q.Items = append(q.Items, item{})
			own := &q.Items[len(q.Items)-1]
			for s.Open('{'); s.Next('}'); {
				own.member(s, s.Key())
			}
		}
	case "take":
		q.Take = new(takePart)
		for s.Open('{'); s.Next('}'); {
			q.Take.member(s, s.Key())
		}
	default:
		q.caller.member(s, name)
	}
}

func (i *item) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "outcome":
		i.Outcome = pull.Outcome(s.String())
	case "after":
		scanDuration(s, &i.After)
	case "reason":
		i.Reason = s.String()
	case "result":
		if i.Result = json.RawMessage(s.Raw()); !json.Valid(i.Result) {
			s.GiveUp()
		}
	default:
		i.held.member(s, name)
	}
}

func (b *beatRequest) member(s *jsonscan.Scanner, name string) {
	if name != "progress" {
		b.caller.member(s, name)
		return
	}
	b.Progress = []working{}
	for s.Open('['); s.Next(']'); {
		b.Progress = append(b.Progress, working{})
		own := &b.Progress[len(b.Progress)-1]
		for s.Open('{'); s.Next('}'); {
			switch name := s.Key(); name {
			case "percent":
				own.Percent = float64(s.Int())
			case "note":
				own.Note = s.String()
			default:
				own.held.member(s, name)
			}
		}
	}
}

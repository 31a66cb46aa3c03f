package worker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/jsonscan"
)

// readAnswer reads what a relay answers.
func readAnswer(text string) (*answer, error) {
	got := new(answer)
	if scanAnswer(text, got) {
		return got, nil
	}
	*got = answer{}
	if err := json.Unmarshal([]byte(text), got); err != nil {
		return nil, fmt.Errorf("the answer is not what a relay answers: %w", err)
	}
	return got, nil
}

// scanAnswer says whether it has understood all of the answer.
func scanAnswer(text string, got *answer) bool {
	s := jsonscan.Scanner{Text: text}
	for s.Open('{'); s.Next('}'); {
		switch s.Key() {
		case "jobs":
			got.Jobs = got.Jobs[:0]
			for s.Open('['); s.Next(']'); {
				// A text of its own: one job that takes long must not keep all that came with it.
				got.Jobs = append(got.Jobs, takenJob{})
				if !scanJob(string([]byte(s.Raw())), &got.Jobs[len(got.Jobs)-1]) {
					s.GiveUp()
				}
			}
		case "items":
			got.Items = scanItems(&s)
		case "cancel":
			got.Cancel = scanRefs(&s)
		case "lost":
			got.Lost = scanRefs(&s)
		case "quiet":
			got.Quiet = s.Bool()
		default:
			s.GiveUp()
		}
	}
	return s.Done()
}

func scanJob(text string, t *takenJob) bool {
	s := jsonscan.Scanner{Text: text}
	for s.Open('{'); s.Next('}'); {
		switch name := s.Key(); name {
		case "topic":
			t.Topic = s.String()
		case "key":
			t.Key = s.String()
		case "payload":
			t.Payload = json.RawMessage(s.Raw())
		case "body":
			var err error
			if t.Body, err = base64.StdEncoding.DecodeString(s.String()); err != nil {
				s.GiveUp()
			}
		case "headers":
			if json.Unmarshal([]byte(s.Raw()), &t.Headers) != nil {
				s.GiveUp()
			}
		default:
			t.member(&s, name)
		}
	}
	return s.Done()
}

// member reads a member that is no content of the message.
func (t *takenJob) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "created_at":
		t.CreatedAt = scanTime(s)
	case "priority":
		t.Priority = int(s.Int())
	case "attempt":
		t.Attempt = int(s.Int())
	case "max_attempts":
		t.MaxAttempts = int(s.Int())
	case "deadline":
		t.Deadline = scanTime(s)
	default:
		t.ref.member(s, name)
	}
}

func (r *ref) member(s *jsonscan.Scanner, name string) {
	switch name {
	case "subscription":
		r.Subscription = s.String()
	case "id":
		r.ID = s.Int()
	case "token":
		r.Token = s.String()
	default:
		s.GiveUp()
	}
}

func scanTime(s *jsonscan.Scanner) time.Time {
	at, err := time.Parse(time.RFC3339, s.String())
	if err != nil {
		s.GiveUp()
	}
	return at
}

func scanItems(s *jsonscan.Scanner) (items []settled) {
	for s.Open('['); s.Next(']'); {
		var one settled
		for s.Open('{'); s.Next('}'); {
			switch s.Key() {
			case "subscription":
				one.Subscription = s.String()
			case "id":
				one.ID = s.Int()
			case "answer":
				one.Answer = s.String()
			default:
				s.GiveUp()
			}
		}
		items = append(items, one)
	}
	return items
}

func scanRefs(s *jsonscan.Scanner) (refs []ref) {
	for s.Open('['); s.Next(']'); {
		var one ref
		for s.Open('{'); s.Next('}'); {
			one.member(s, s.Key())
		}
		refs = append(refs, one)
	}
	return refs
}

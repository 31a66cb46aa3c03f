package workertest

import (
	"encoding/json"
	"strconv"
	"time"
)

const (
	pending   = "pending"
	isOut     = "out"
	retrying  = "retrying"
	done      = "done"
	dead      = "dead"
	cancelled = "cancelled"
)

func (s *Server) peer(q *request) *peer {
	p := s.workers[q.Incarnation]
	if p == nil {
		p = new(peer)
		s.workers[q.Incarnation] = p
	}
	p.seen = time.Now()
	return p
}

// next hands out jobs of a subscription. The lock is held.
func (s *Server) next(p *peer, subscription string, most int) (list []map[string]any) {
	for s.first < len(s.jobs) && s.jobs[s.first].over() {
		s.first++
	}
	busy := map[string]bool{} // keys
	for _, e := range s.jobs[s.first:] {
		if len(list) == most {
			break
		}
		if e.subscription == subscription && !e.over() && e.free(busy) {
			s.give(e, p)
			list = append(list, e.show(s.attempts))
		}
	}
	if len(list) > 0 {
		s.change()
	}
	return list
}

// free reports whether a job can be handed out. Keys are busy from their first job on that is out, fails, or is about to go out.
func (e *entry) free(busy map[string]bool) bool {
	key := e.message.Key
	free := e.token == "" && !e.due.After(time.Now()) && !busy[key]
	if key != "" && (free || e.token != "" || e.State.State == retrying) {
		busy[key] = true
	}
	return free
}

func (s *Server) give(e *entry, p *peer) {
	s.tokens++
	e.token, e.holder, e.handedOut, e.State.State = strconv.FormatInt(s.tokens, 10), p, time.Now(), isOut
	e.Attempts++
	s.out[e.token] = e
}

func (e *entry) over() bool {
	return e.State.State == done || e.State.State == dead || e.State.State == cancelled
}

// show is the job as a worker gets it.
func (e *entry) show(attempts int) map[string]any {
	job := map[string]any{"subscription": e.subscription, "id": e.id, "token": e.token, "topic": e.message.Topic, "key": e.message.Key,
		"headers": e.message.Headers, "created_at": e.created, "priority": 2, "attempt": e.Attempts, "max_attempts": attempts,
		"deadline": e.handedOut.Add(5 * time.Minute)}
	if e.payload != nil {
		job["payload"] = e.payload
	} else {
		job["body"] = e.message.Body
	}
	return job
}

// end settles an attempt and returns the answer for it. The lock is held.
func (s *Server) end(p *peer, token, outcome string, after time.Duration, reason string, result json.RawMessage) string {
	e := s.out[token]
	if e != nil && s.trouble.moving[e.subscription] {
		s.trouble.moved++
		return "moving"
	}
	if e == nil || e.holder != p {
		if answer, known := s.old[token]; known {
			return answer
		}
		return "unknown"
	}
	answer := "ok"
	e.Reason = reason
	switch {
	case e.cancelled:
		e.State.State, answer = cancelled, "cancelled"
	case outcome == "done":
		e.State.State, e.Result = done, result
	case outcome == "dead", outcome == "retry" && e.Attempts >= s.attempts:
		e.State.State = dead
	case outcome == "retry":
		e.State.State, e.due = retrying, time.Now().Add(after)
	case outcome == "snooze":
		e.State.State, e.due = pending, time.Now().Add(after)
		e.Attempts--
	default:
		e.Attempts--
		e.Released++
		e.State.State = pending
	}
	s.forget(e, answer)
	return answer
}

// forget ends a token; what is asked for it again is answered so. The lock is held.
func (s *Server) forget(e *entry, answer string) {
	s.old[e.token] = answer
	delete(s.out, e.token)
	e.token, e.holder = "", nil
}

// lose gives a job to others. The lock is held.
func (s *Server) lose(e *entry) {
	s.forget(e, "late")
	e.State.State, e.due = retrying, time.Time{}
	if e.cancelled {
		e.State.State = cancelled
	}
}

// holding compares what a worker says that it holds with what it was given before it said so: what it does not name is released, what is not
// its own any more is lost. The lock is held.
func (s *Server) holding(p *peer, list *[]ref, said time.Time) (lost, cancel []ref) {
	lost, cancel = []ref{}, []ref{}
	if list == nil {
		return lost, cancel
	}
	named := map[string]bool{}
	for _, r := range *list {
		named[r.Token] = true
		e := s.out[r.Token]
		switch {
		case e == nil || e.holder != p:
			lost = append(lost, r)
		case e.cancelled:
			cancel = append(cancel, r)
		}
	}
	for token, e := range s.out {
		if e.holder == p && !named[token] && e.handedOut.Before(said) {
			s.end(p, token, "release", 0, "", nil)
			s.old[token] = "unknown"
		}
	}
	return lost, cancel
}

// dueTimer fires when the next job that is not due yet becomes so.
func (s *Server) dueTimer() <-chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := time.Time{}
	for _, e := range s.jobs[s.first:] {
		if !e.over() && e.token == "" && !e.due.IsZero() && (next.IsZero() || e.due.Before(next)) {
			next = e.due
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(max(time.Until(next), time.Millisecond))
}

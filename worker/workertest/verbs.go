package workertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for verb, do := range map[string]func(*http.Request, *request, map[string]any) error{"take": s.take, "settle": s.settle, "beat": s.beat} {
		mux.HandleFunc("POST /api/v1/jobs/"+verb, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, do) })
	}
	return mux
}

// serve does what the request asks for, and answers unless the answer is to get lost.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, do func(*http.Request, *request, map[string]any) error) {
	var q request
	answer := map[string]any{}
	err := json.NewDecoder(r.Body).Decode(&q)
	if err == nil && (q.Worker == "" || q.Incarnation == "") {
		err = fmt.Errorf("worker is %q and incarnation %q: give both", q.Worker, q.Incarnation)
	}
	s.mu.Lock()
	if s.trouble.deaf > 0 {
		s.trouble.deaf--
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	if s.trouble.refuse != "" {
		err = errors.New(s.trouble.refuse)
	}
	s.mu.Unlock()
	if err == nil {
		err = do(r, &q, answer)
	}
	s.mu.Lock()
	lost := s.trouble.cut > 0
	if lost {
		s.trouble.cut--
	}
	answer["quiet"] = s.quiet
	s.mu.Unlock()
	if lost {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"title": "Bad Request", "status": http.StatusBadRequest, "code": "invalid", "detail": err.Error()}
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	_ = json.NewEncoder(w).Encode(answer) // nobody listens any more
}

func (s *Server) take(r *http.Request, q *request, answer map[string]any) error {
	return s.handOut(r, q, &q.takeFrom, answer)
}

// gives reports whether there are jobs for whoever calls: what is given to a caller that is gone would be out for ever. The lock is held.
func (s *Server) gives(r *http.Request) bool { return !s.quiet && r.Context().Err() == nil }

// handOut waits for jobs and hands them out.
func (s *Server) handOut(r *http.Request, q *request, t *takeFrom, answer map[string]any) error {
	wait, err := time.ParseDuration(t.Wait)
	if err != nil {
		return fmt.Errorf("wait is %q: give a duration such as 30s", t.Wait)
	}
	began := time.Now()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(q)
	s.holding(p, q.Holding, began)
	for {
		jobs := []map[string]any{}
		for _, f := range t.From {
			if s.gives(r) {
				jobs = append(jobs, s.next(p, f.Subscription, f.Max)...)
			}
		}
		answer["jobs"] = jobs
		if len(jobs) > 0 || s.quiet {
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-timeout.C:
			over = true
		case <-s.dueTimer():
		case <-r.Context().Done():
			over = true
		}
		s.mu.Lock()
		if over {
			return nil
		}
	}
}

func (s *Server) settle(r *http.Request, q *request, answer map[string]any) error {
	items := []map[string]any{}
	s.mu.Lock()
	p := s.peer(q)
	for _, i := range q.Items {
		after := time.Duration(0)
		if i.After != "" {
			var err error
			if after, err = time.ParseDuration(i.After); err != nil {
				s.mu.Unlock()
				return fmt.Errorf("after is %q: give a duration such as 30s", i.After)
			}
			if after == RefusedAfter {
				s.mu.Unlock()
				return fmt.Errorf("after is %q: give another one", i.After)
			}
		}
		items = append(items, map[string]any{"subscription": i.Subscription, "id": i.ID,
			"answer": s.end(p, i.Token, i.Outcome, after, i.Reason, i.Result)})
	}
	s.change()
	s.mu.Unlock()
	answer["items"] = items
	if q.Take == nil {
		return nil
	}
	return s.handOut(r, q, q.Take, answer)
}

func (s *Server) beat(_ *http.Request, q *request, answer map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats++
	p := s.peer(q)
	for _, g := range q.Progress {
		if e := s.out[g.Token]; e != nil {
			e.Percent, e.Note = g.Percent, g.Note
		}
	}
	lost, cancel := s.holding(p, q.Holding, time.Now())
	answer["lost"], answer["cancel"] = lost, cancel
	s.change()
	return nil
}

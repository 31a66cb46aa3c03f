// Package amazontest is a server for tests that speaks what SQS (JSON) and SNS (query) speak to senders, under the limits that AWS documents: sizes,
// characters, counts of attributes, signatures. It answers errors of a test's choice, which no other server does.
package amazontest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// The credentials that it knows.
const (
	AccessKeyID     = "AKIAPOSTRIDERTESTS00"
	SecretAccessKey = "a-secret/of+tests"
)

// Fault is an error of a test's choice. Entry names the one entry of a batch that it is for, by its message id; else it is for the request.
type Fault struct {
	Status        int // zero: 400
	Code, Message string
	Header        http.Header
	Entry         string
	ServerFault   bool
	// Take has the messages taken all the same; Silent leaves the entry out of the answer.
	Take, Silent bool
}

// Message is one that was taken.
type Message struct {
	Body, Group, Deduplication string
	Attributes                 map[string]string
}

// Server is the server.
type Server struct {
	*httptest.Server
	mu       sync.Mutex
	names    map[string]bool
	taken    []Message
	had      map[string]bool
	requests []int // how many entries each batch had
	// Fault is asked about each request, with the message ids of its entries; nil for none.
	fault  func(action string, ids []string) *Fault
	notice func(Message) // nil: nobody wants to be told
	most   int
}

// New starts one that has the queues and topics of these names, and ends with the test.
func New(t testing.TB, names ...string) *Server {
	s := Start(names...)
	t.Cleanup(s.Close)
	return s
}

// Start is New for whoever closes it.
func Start(names ...string) *Server {
	s := &Server{names: map[string]bool{}, had: map[string]bool{}, most: 256 << 10}
	for _, name := range names {
		s.names[name] = true
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Notice has f told of each message that is taken from now on, instead of keeping it.
func (s *Server) Notice(f func(Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice = f
}

// Have makes or removes a queue or a topic.
func (s *Server) Have(name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = there
}

// Fail has f asked about each request that follows.
func (s *Server) Fail(f func(action string, ids []string) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Takes sets how large a message, and all of one request together, may be.
func (s *Server) Takes(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = most
}

// Taken returns what was taken so far.
func (s *Server) Taken() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.taken...)
}

// Batches returns how many entries each batch had.
func (s *Server) Batches() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int(nil), s.requests...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	q, bad := read(r, body)
	if bad == nil {
		bad = signed(r, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.faultFor(q)
	if bad == nil {
		bad = s.refusal(q, fault)
	}
	if bad != nil {
		q.refuse(w, bad)
		return
	}
	results := s.take(q, fault)
	if fault != nil && fault.Entry == "" {
		q.refuse(w, fault)
		return
	}
	q.answer(w, r.Host, s.most, results)
}

// refusal is why a request is refused, nil if it is not.
func (s *Server) refusal(q *request, fault *Fault) *Fault {
	switch {
	case fault != nil && fault.Entry == "" && !fault.Take:
		return fault
	case !s.names[q.name] && q.json:
		return &Fault{Code: "AWS.SimpleQueueService.NonExistentQueue", Message: "The specified queue does not exist."}
	case !s.names[q.name]:
		return &Fault{Status: 404, Code: "NotFound", Message: "Topic does not exist"}
	case q.entries == nil:
		return nil
	}
	s.requests = append(s.requests, len(q.entries))
	return s.check(q)
}

func (s *Server) faultFor(q *request) *Fault {
	if s.fault == nil || q == nil {
		return nil
	}
	var ids []string
	for i := range q.entries {
		ids = append(ids, q.entries[i].id())
	}
	return s.fault(q.action, ids)
}

type result struct {
	entry  *entry
	failed *Fault
}

func (s *Server) take(q *request, fault *Fault) (list []result) {
	for i := range q.entries {
		e := &q.entries[i]
		if fault != nil && fault.Entry == e.id() && e.id() != "" {
			if !fault.Silent {
				list = append(list, result{e, fault})
			}
			continue
		}
		list = append(list, result{e, nil})
		if e.MessageDeduplicationId != "" && s.had[e.MessageDeduplicationId] {
			continue
		}
		s.had[e.MessageDeduplicationId] = true
		m := Message{Body: e.MessageBody, Group: e.MessageGroupId, Deduplication: e.MessageDeduplicationId, Attributes: map[string]string{}}
		for name, a := range e.MessageAttributes {
			m.Attributes[name] = a.StringValue
		}
		if s.notice != nil {
			s.notice(m)
			continue
		}
		s.taken = append(s.taken, m)
	}
	return list
}

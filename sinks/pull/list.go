package pull

// list is a queue out of whose middle something can leave.
type list[T any] struct {
	first, last *spot[T]
	n           int
}

// spot is a place in a list.
type spot[T any] struct {
	of         *T
	in         *list[T] // nil: it is in none
	prev, next *spot[T]
}

func (l *list[T]) pushBack(s *spot[T]) {
	s.in, s.prev, s.next = l, l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
	l.n++
}

func (l *list[T]) pushFront(s *spot[T]) {
	s.in, s.prev, s.next = l, nil, l.first
	if l.first == nil {
		l.last = s
	} else {
		l.first.prev = s
	}
	l.first = s
	l.n++
}

// leave takes the spot out of its list, if it is in one.
func (s *spot[T]) leave() {
	l := s.in
	if l == nil {
		return
	}
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.in, s.prev, s.next = nil, nil, nil
	l.n--
}

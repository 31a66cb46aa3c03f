package expression

import (
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/sinks"
)

// Memo is a place, beside a message, for what was found out about it. The zero value is ready; it may be used by several goroutines at once.
type Memo struct{ of atomic.Pointer[memory] }

// memory is made when the first expression looks at the message. It is what expressions see of it, too: see view.go.
type memory struct {
	m     *sinks.Message
	mu    sync.Mutex
	found []*finding
	one   finding     // of the first filter, and where it is listed: most messages have no more
	list  [2]*finding // the array of found, at first
}

// finding is what a program says of the message, or what is to be read for all of them.
type finding struct {
	what any // a *Program or a part
	once sync.Once
	is   any
	err  error
}

// mostFound bounds what a memory keeps: the oldest goes.
const mostFound = 10

// memory returns that of the message beside which the memo is.
func (m *Memo) memory(of *sinks.Message) *memory {
	if is := m.of.Load(); is != nil {
		return is
	}
	made := &memory{m: of}
	made.found = made.list[:0]
	if m.of.CompareAndSwap(nil, made) {
		return made
	}
	return m.of.Load()
}

// find returns the place of something, empty if it is new.
func (m *memory) find(what any) *finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.found {
		if f.what == what {
			return f
		}
	}
	f := m.unused(what)
	if len(m.found) == mostFound {
		m.found = append(m.found[:0], m.found[1:]...)
	}
	m.found = append(m.found, f)
	return f
}

// unused returns an empty finding. What takes room has one that ends when it is dropped.
func (m *memory) unused(what any) *finding {
	if p, ok := what.(*Program); ok && p.kind == &filters && m.one.what == nil {
		m.one.what = p
		return &m.one
	}
	return &finding{what: what}
}

// drop forgets a finding, for whoever comes later.
func (m *memory) drop(f *finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, other := range m.found {
		if other == f {
			m.found = append(m.found[:i], m.found[i+1:]...)
			return
		}
	}
}

// keptBytes is what findings that take room may take, of all messages together.
const keptBytes = 4 << 20

// large are the findings that take room, the oldest first.
var large keeper

type keeper struct {
	mu    sync.Mutex
	kept  []keptFinding
	bytes int
}

type keptFinding struct {
	of    *memory
	what  *finding
	bytes int
}

// keep lets a finding stay until others need its room. What takes more than there is stays no longer than it is used.
func (k *keeper) keep(m *memory, f *finding, bytes int) {
	k.mu.Lock()
	k.kept = append(k.kept, keptFinding{m, f, bytes})
	k.bytes += bytes
	var gone []keptFinding
	n := 0
	for ; k.bytes > keptBytes; n++ {
		gone = append(gone, k.kept[n])
		k.bytes -= k.kept[n].bytes
	}
	clear(k.kept[:n])
	k.kept = k.kept[n:]
	k.mu.Unlock()
	for _, g := range gone {
		g.of.drop(g.what)
	}
}

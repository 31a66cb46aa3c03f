package delivery

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
)

// room is the memory for messages that are read by themselves: a delivery claims what its message will take before it is read, and
// waits until there is room. Whoever is slow to give it back cannot keep the others waiting:
//
//   - one subscription has a quarter of it at most, unless it has only one message there;
//   - destinations that have not shown yet that they work, or do not at the moment, have half of it in all;
//   - a message for which all of it, or that half, is too small goes alone: one at a time, beside the others.
type room struct {
	limit int64

	mu      sync.Mutex
	used    int64
	doubted int64 // of used
	alone   bool  // a message that goes alone is there
	waiting []*claim
}

// claim is what a delivery has of a room, or waits for. All of it is the room's to change.
type claim struct {
	tenant  *tenant
	doubted bool
	wants   int64
	bytes   int64         // granted, unless it goes alone
	alone   bool          // it wants more than all that it may have
	ready   chan struct{} // closed when it is granted
}

// tenant is a subscription in a room.
type tenant struct{ used int64 }

// enter waits for so much room. The claim has none when it is called.
func (m *room) enter(ctx context.Context, c *claim, bytes int64) error {
	m.mu.Lock()
	c.wants, c.ready = bytes, make(chan struct{})
	c.alone = bytes > m.limit || c.doubted && bytes > m.limit/2
	m.waiting = append(m.waiting, c)
	m.grant()
	m.mu.Unlock()
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.waiting, c)
	if i < 0 {
		return nil // granted meanwhile
	}
	c.alone = false
	m.waiting = slices.Delete(m.waiting, i, i+1)
	m.grant() // the others may have waited for this one's turn
	return ctx.Err()
}

// grant lets in whoever fits, in order. What has to wait for its own tenant lets others by, what waits for room does not.
func (m *room) grant() {
	full, first := false, m.firstAlone()
	kept := m.waiting[:0]
	for _, c := range m.waiting {
		switch {
		case c == first:
			m.alone = true
		case c.alone, full, !m.mayHave(c):
			kept = append(kept, c)
			continue
		case m.used > 0 && m.used+c.wants > m.limit:
			full = true
			kept = append(kept, c)
			continue
		default:
			m.count(c, c.wants)
		}
		close(c.ready)
	}
	clear(m.waiting[len(kept):])
	m.waiting = kept
}

// firstAlone returns the next claim that goes alone, if none has gone: those in doubt come last.
func (m *room) firstAlone() (first *claim) {
	if m.alone {
		return nil
	}
	for _, c := range m.waiting {
		if c.alone && (first == nil || first.doubted && !c.doubted) {
			first = c
		}
	}
	return first
}

func (m *room) mayHave(c *claim) bool {
	return (c.tenant.used == 0 || c.tenant.used+c.wants <= m.limit/4) && (!c.doubted || m.doubted+c.wants <= m.limit/2)
}

func (m *room) count(c *claim, bytes int64) {
	c.bytes += bytes
	c.tenant.used += bytes
	m.used += bytes
	if c.doubted {
		m.doubted += bytes
	}
}

// shrink gives back what the claim has too much of.
func (m *room) shrink(c *claim, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes < c.bytes {
		m.count(c, bytes-c.bytes)
		m.grant()
	}
}

// leave gives back all that the claim has.
func (m *room) leave(c *claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.alone {
		debug.FreeOSMemory() // before the next one of its size comes
		m.alone, c.alone = false, false
	}
	m.count(c, -c.bytes)
	m.grant()
}

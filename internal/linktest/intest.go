package linktest

import "testing"

// InTest is a link that belongs to a test and ends with it.
type InTest struct {
	*Link
	t testing.TB
}

// New starts a link to upstream (host:port) for a test.
func New(t testing.TB, upstream string) *InTest {
	t.Helper()
	l, err := Start(upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return &InTest{l, t}
}

// Down is Cut: connections are reset, and new ones refused.
func (l *InTest) Down() { l.Cut() }

// Hang is HalfOpen in both directions: connections can be made, and no byte passes.
func (l *InTest) Hang() { l.HalfOpen(Both) }

// Up is Heal: it ends Down and Hang, and passes on what Hang held back.
func (l *InTest) Up() {
	l.t.Helper()
	if err := l.Heal(); err != nil {
		l.t.Fatal(err)
	}
}

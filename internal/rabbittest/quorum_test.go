package rabbittest

import "testing"

// A quorum queue survives SIGKILL from when Quorum returns on.
func TestQuorum(t *testing.T) {
	s := Start(t)
	t.Cleanup(func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Quorum("kept"); err != nil {
		t.Fatal(err)
	}
}

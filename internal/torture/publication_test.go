package torture

import "testing"

// A standby that is promoted may have lost that the publication was made again: whoever promotes it sees to it that there is one.
func TestPublicationOfAPromotedStandby(t *testing.T) {
	w := stage{Config: Config{Follow: "stream", Standby: true}, only: []string{"hooks"}}.set(t)
	if err := w.db.try(t.Context(), "DROP PUBLICATION postrider"); err != nil {
		t.Fatal(err)
	}
	w.apps.start(t.Context(), kinds(w.Follow, false), 1)
	err := promote(t.Context(), w, 0)
	w.apps.stop()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := one[int](t.Context(), w.db, "SELECT count(*)::int FROM pg_publication"); err != nil || n != 1 {
		t.Errorf("%d publications, %v: want 1", n, err)
	}
	if n := w.publication.faults.Load(); n != 0 {
		t.Errorf("%d faults are under way", n)
	}
}

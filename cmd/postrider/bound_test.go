package main

import (
	"os"
	"testing"
)

// The relay that is told how large a message may be tells the database; one that is not leaves it.
func TestRunSetsTheLargestMessage(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for _, c := range []struct {
		env  []string
		want string // in the log
		left string
	}{
		{nil, "", "messages up to 16MiB are accepted"},
		{[]string{"POSTRIDER_MAX_MESSAGE=128KiB"}, `another size now" from=16MiB to=128KiB`, "messages up to 128KiB are accepted"},
		{nil, "", "messages up to 128KiB are accepted"},
		{[]string{"POSTRIDER_MAX_MESSAGE=1MiB"}, `another size now" from=128KiB to=1MiB`, "messages up to 1MiB are accepted"},
	} {
		p := start(t, append(c.env, "POSTRIDER_DATABASE_URL="+db.URL())...)
		p.waitFor(c.want)
		p.waitFor(`msg=relaying`)
		p.signal(os.Interrupt)
		if status := p.ends(); status != 0 {
			t.Errorf("status %d", status)
		}
		doctorOn(t, db.URL(), c.env...).ok("ok message size " + c.left)
	}
	doctorOn(t, db.URL(), "POSTRIDER_MAX_MESSAGE=2MiB").ok("note message size the database accepts messages up to 1MiB, POSTRIDER_MAX_MESSAGE says 2MiB",
		"SELECT postrider.set_max_message(2097152);")
}

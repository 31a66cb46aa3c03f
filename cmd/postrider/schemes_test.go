package main

import (
	"regexp"
	"testing"
)

// What can be subscribed to in SQL is what this build delivers to.
func TestSchemesInSQLAreTheBuilds(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	known := regexp.MustCompile(`known are ((?:[a-z]+, )+[a-z]+)`)
	build := known.FindStringSubmatch(on(t, db.URL(), "subs", "apply", writeFile(t, "subscriptions:\n  - {name: x, topics: [a], sink: 'gopher://host'}\n")).fails("gopher").err)
	_, err := connectTo(t, db.URL()).Exec(t.Context(), "SELECT postrider.subscribe('x', '{a}', 'gopher://host')")
	if err == nil {
		t.Fatal("gopher: is taken")
	}
	inSQL := known.FindStringSubmatch(err.Error())
	if len(build) == 0 || len(inSQL) == 0 || build[1] != inSQL[1] {
		t.Errorf("SQL knows %q, this build %q", inSQL, build)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/admin"
)

// Messages are found by topic, key, time and what became of them, page by page, each once.
func TestMessagesAreFound(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, `SELECT postrider.subscribe('billing', '{orders.>}', 'http://127.0.0.1:1')`)
	db.Exec(t, `SELECT count(postrider.enqueue(CASE WHEN g % 10 = 0 THEN 'orders.paid' ELSE 'mail.sent' END, jsonb_build_object('n', g), key => 'customer-' || g % 100)) FROM generate_series(1, 45000) g`)
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, topic, key, payload, reason)
		SELECT 'billing', id, created_at, CASE WHEN id % 20 = 0 THEN 'dead' ELSE 'retrying' END, 3, topic, key, payload, 'status 503' FROM postrider.outbox WHERE topic = 'orders.paid' AND id > 44000`)
	list := func(args ...string) (l admin.MessageList) {
		t.Helper()
		r := on(t, db.URL(), append([]string{"messages", "list", "--json"}, args...)...).ok()
		if err := json.Unmarshal([]byte(r.out), &l); err != nil {
			t.Fatalf("%s: %v", r.out, err)
		}
		return l
	}
	// all follows the pages.
	all := func(args ...string) (ids []int64) {
		t.Helper()
		var before []string
		for {
			l := list(append(args, before...)...)
			for _, m := range l.Messages {
				ids = append(ids, m.ID)
			}
			if l.Next == nil {
				return ids
			}
			before = []string{"--before", fmt.Sprint(*l.Next)}
		}
	}
	for _, c := range []struct {
		args []string
		want int
		is   func(id int64) bool
	}{
		{[]string{"--key", "customer-7", "--limit", "200"}, 450, func(id int64) bool { return id%100 == 7 }},
		{[]string{"--key", "customer-7", "--topic", "orders.*"}, 0, nil},
		{[]string{"--topic", "orders.>", "--key", "customer-50", "--limit", "150"}, 450, func(id int64) bool { return id%100 == 50 }},
		{[]string{"--subscription", "billing", "--status", "dead", "--limit", "20"}, 50, func(id int64) bool { return id%20 == 0 && id > 44000 }},
		{[]string{"--subscription", "billing", "--status", "retrying"}, 50, func(id int64) bool { return id%20 == 10 && id > 44000 }},
		{[]string{"--subscription", "billing", "--status", "pending", "--key", "customer-0", "--limit", "200"}, 440, func(id int64) bool { return id%100 == 0 && id <= 44000 }},
		{[]string{"--subscription", "billing", "--key", "customer-7"}, 0, nil},
		{[]string{"--since", "1h", "--key", "customer-0", "--limit", "200"}, 450, func(id int64) bool { return id%100 == 0 }},
		{[]string{"--until", "1h"}, 0, nil},
	} {
		ids := all(c.args...)
		if len(ids) != c.want || !slices.IsSortedFunc(ids, func(a, b int64) int { return int(b - a) }) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("%s: %d messages, want %d, each once, the newest first", strings.Join(c.args, " "), len(ids), c.want)
		}
		for _, id := range ids {
			if c.is != nil && !c.is(id) {
				t.Errorf("%s: message %d", strings.Join(c.args, " "), id)
			}
		}
	}
	newest := list()
	if len(newest.Messages) != 20 || newest.Messages[0].ID != 45000 || newest.Next == nil || *newest.Next != 44981 {
		t.Errorf("the newest: %+v", newest)
	}
	on(t, db.URL(), "messages", "list", "--subscription", "billing", "--status", "dead", "--limit", "1").ok("45000", "orders.paid", "customer-0", "dead", "3", "status 503", "There may be more: --before 45000")
	on(t, db.URL(), "messages", "list", "--key", "nobody", "--before", "1000").ok("There are no such messages.")
	on(t, db.URL(), "messages", "show", "45000").ok("status dead", `"n": 45000`)

	// What has left the log is found among what is parked, with its contents.
	db.Exec(t, "TRUNCATE postrider.outbox")
	on(t, db.URL(), "messages", "list", "--subscription", "billing", "--status", "dead", "--key", "customer-20").ok("44920", "dead")

	for args, want := range map[string]string{
		"--status dead":                        `status "dead": is that of a delivery: name a subscription, too`,
		"--status gone --subscription billing": `status "gone": must be one of pending, delivered, retrying`,
		"--subscription biling":                `did you mean "billing"?`,
		"--topic a..b":                         "topic: ",
		"--limit 0":                            "limit 0: must be from 1 to 200",
		"--limit 201":                          "limit 201: must be from 1 to 200",
		"--since yesterday":                    `since "yesterday": must be a time`,
		"--since 1h --until 2h":                "must be after since",
	} {
		on(t, db.URL(), append([]string{"messages", "list"}, strings.Fields(args)...)...).fails(want)
	}
}

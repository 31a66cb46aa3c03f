package main

import (
	"testing"
)

// Two deployments that apply and prune different files, each with a scope of its own, remove nothing of each other's, nor of what has none.
func TestDeploymentsPruneTheirOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command, kind, list        string
		shop, shopLess, crm, plain string
	}{
		{"subs", "subscription", "SELECT string_agg(name, ',' ORDER BY name) FROM postrider.subscriptions",
			"subscriptions: [{name: shop-a, topics: [a], sink: 'stdout:'}, {name: shop-b, topics: [b], sink: 'stdout:'}]",
			"subscriptions: [{name: shop-b, topics: [b], sink: 'stdout:'}]",
			"subscriptions: [{name: crm-a, topics: [a], sink: 'stdout:'}]",
			"subscriptions: [{name: plain, topics: [a], sink: 'stdout:'}]"},
		{"schedules", "schedule", "SELECT string_agg(name, ',' ORDER BY name) FROM postrider.schedules",
			"schedules: [{name: shop-a, cron: '@daily', topic: a}, {name: shop-b, cron: '@daily', topic: b}]",
			"schedules: [{name: shop-b, cron: '@daily', topic: b}]",
			"schedules: [{name: crm-a, cron: '@daily', topic: a}]",
			"schedules: [{name: plain, cron: '@daily', topic: a}]"},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			apply := func(file string, more ...string) result {
				t.Helper()
				return on(t, db.URL(), append([]string{c.command, "apply", writeFile(t, file)}, more...)...)
			}
			left := func(want string) {
				t.Helper()
				if got := one[string](t, db, c.list); got != want {
					t.Errorf("there are %s, want %s", got, want)
				}
			}
			prune := []string{"--prune", "--yes"}
			apply(c.shop, append(prune, "--scope", "shop")...).ok("shop-a created", "shop-b created")
			apply(c.crm, append(prune, "--scope", "crm")...).ok("crm-a created").lacks("shop-a", "shop-b")
			apply(c.plain, prune...).ok("plain created").lacks("shop-a", "shop-b", "crm-a")
			left("crm-a,plain,shop-a,shop-b")
			apply(c.shopLess, "--prune", "--scope", "shop").fails("prune would remove what is not named: shop-a")
			apply(c.shopLess, "--prune", "--scope", "shop", "--dry-run").ok("shop-b unchanged", "shop-a removed").lacks("crm-a", "plain")
			left("crm-a,plain,shop-a,shop-b")
			apply(c.shopLess, append(prune, "--scope", "shop")...).ok("shop-b unchanged", "shop-a removed").lacks("crm-a", "plain")
			left("crm-a,plain,shop-b")
			// What another one has is not taken from it.
			apply(c.shopLess, "--scope", "crm").fails(c.kind+` "shop-b"`, "scope 'crm': it is of scope 'shop'", "postrider.drop_scope('"+c.kind+"', 'shop-b')")
			apply(c.shopLess).ok("shop-b unchanged")
			apply(c.shopLess, "--scope", "Shop 1").fails("scope 'Shop 1': must be 1 to 63 lower-case letters, digits, - and _")
			// What has none is taken, told as a change.
			apply(c.plain, "--scope", "crm").ok("plain changed", "scope: none → crm")
			apply(c.plain, "--scope", "crm").ok("plain unchanged")
			apply(c.plain, append(prune, "--scope", "crm")...).ok("crm-a removed").lacks("shop-b")
			left("plain,shop-b")
			// What comes again under the name has no scope of its predecessor.
			db.Exec(t, "SELECT postrider.drop_scope($1, 'plain')", c.kind)
			on(t, db.URL(), c.command, "remove", "shop-b").ok()
			apply(c.shopLess, "--scope", "other").ok("shop-b created")
			if n := one[int](t, db, "SELECT count(*)::int FROM postrider.scopes"); n != 1 {
				t.Errorf("%d scopes are kept, want 1", n)
			}
		})
	}
}

package postgres

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	const url = "postgres://joe@db.example/shop"
	for _, c := range []struct{ url, options, want string }{
		{"postgres://db.example/shop?table=a.b", "", "names no user"},
		{"postgres://joe@db.example?table=a.b", "", "names no database"},
		{"postgres://joe@db.example/a/b?table=a.b", "", "names no database"},
		{"postgres://joe@/shop?table=a.b", "", "names no host"},
		{"postgres://joe@%2Frun%2Fpostgresql/shop?table=a.b", "", "host"},
		{"postgres://joe@db.example:0/shop?table=a.b", "", "from 1 to 65535"},
		{"postgres://joe@a.example,b.example:99999/shop?table=a.b", "", "from 1 to 65535"},
		{"postgres://joe:hunter22@db.example/shop?table=a.b", "", "options.password"},
		{"postgres://joe:hunter22@db.example:x/shop?table=a.b", "", "user info"},
		{url + "?table=a.b&sslmode=disable", "", `"sslmode"`},
		{url + "?table=a.b&table=c.d", "", "twice"},
		{url + "?table=a.b", `{"table": "a.b"}`, "twice"},
		{url + "?table=a.b#x", "", "postgres://receiver@host/shop"},
		{url, "", "either table or function"},
		{url + "?table=a.b&function=c.d", "", "either table or function"},
		{url + "?table=events", "", "schema.name"},
		{url, `{"table": "a.b.c"}`, "schema.name"},
		{url, `{"table": "a.\"b\""}`, "schema.name"},
		{url, `{"table": ".b"}`, "schema.name"},
		{url, `{"table": "a.` + strings.Repeat("x", 64) + `"}`, "63 bytes"},
		{url, `{"table": "a.b", "inbox": "` + strings.Repeat("x", 128) + `"}`, "127"},
		{url, `{"table": "a.b", "inbox": "a\u0000"}`, "control characters"},
		{url, `{"table": "a.b", "password": "hunter22"}`, "password"},
		{url, `{"table": "a.b", "tls": {"mode": "prefer"}}`, "verify-full, verify-ca, require, disable"},
		{url, `{"table": "a.b", "tls": {"ca": "ca.pem"}}`, "absolute path"},
		{url, `{"table": "a.b", "tls": {"cert": "/c.pem"}}`, "takes both files"},
		{url, `{"table": "a.b", "tls": {"mode": "disable", "ca": "/ca.pem"}}`, "nothing to do"},
		{url, `{"table": "a.b", "guard": {"deny": ["10.0.0.1"]}}`, "10.0.0.1/32"},
		{url, `{"tabel": "a.b"}`, "tabel"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: the password shows: %v", c.url, c.options, err)
		}
	}
	for _, good := range []string{"postgres://joe@db.example/shop?table=a.b", "postgresql://joe@[::1]:5433,10.0.0.1,db.example:6000/shop?function=A.B%20c"} {
		if err := Destination.Check(sinks.Target{URL: good}, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// What is set for connections of this process, in its environment and in files, is nothing that a destination hears.
func TestOthersSettingsStayHere(t *testing.T) {
	for name, value := range map[string]string{"PGPASSWORD": "hunter22", "PGUSER": "root", "PGHOST": "other.example", "PGPORT": "1", "PGDATABASE": "other", "PGOPTIONS": "-c a.b=hunter22",
		"PGAPPNAME": "hunter22", "PGSSLMODE": "require", "PGTZ": "hunter22", "PGPASSFILE": "/nonexistent", "PGTARGETSESSIONATTRS": "standby"} {
		t.Setenv(name, value)
	}
	c, err := parse(sinks.Target{URL: "postgres://joe@127.0.0.1,db.example:6000/shop?table=a.b"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDialer(c, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := d.settings()
	if err != nil {
		t.Fatal(err)
	}
	got := settings.ConnConfig
	if err := d.beforeConnect(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if got.Password != "" || got.User != "joe" || got.Database != "shop" || got.Host != "127.0.0.1" || got.Port != 5432 || len(got.RuntimeParams) != 2 || got.RuntimeParams["application_name"] != "postrider" {
		t.Errorf("it connects as %s with password %q to %s on %s:%d, with %v", got.User, got.Password, got.Database, got.Host, got.Port, got.RuntimeParams)
	}
	if len(got.Fallbacks) != 1 || got.Fallbacks[0].Host != "db.example" || got.Fallbacks[0].Port != 6000 {
		t.Fatalf("the other hosts are %v", got.Fallbacks)
	}
	if got.TLSConfig != nil || got.Fallbacks[0].TLSConfig == nil || got.Fallbacks[0].TLSConfig.InsecureSkipVerify || got.Fallbacks[0].TLSConfig.ServerName != "db.example" {
		t.Error("TLS: want none on loopback, and a verified name elsewhere")
	}
}

// The password is what the reference says, when a connection is made.
func TestPassword(t *testing.T) {
	t.Setenv("POSTRIDER_SECRET_PG", "hunter22")
	target := sinks.Target{URL: "postgres://joe@127.0.0.1/shop?table=a.b", Options: []byte(`{"password": "env:POSTRIDER_SECRET_PG"}`)}
	c, err := parse(target)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDialer(c, slog.New(slog.DiscardHandler), &secret.Store{})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := d.settings()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.beforeConnect(t.Context(), settings.ConnConfig); err != nil || settings.ConnConfig.Password != "hunter22" {
		t.Errorf("%v: the password is not what the reference says", err)
	}
	if got := d.secrets.Redact("x hunter22"); strings.Contains(got, "hunter22") {
		t.Error("texts show it")
	}
	target.Options = []byte(`{"password": "env:POSTRIDER_DATABASE_URL"}`)
	err = Destination.Check(target, &secret.Store{})
	if _, hidden := errors.AsType[*secret.HiddenError](err); !hidden {
		t.Errorf("another's secret: %v", err)
	}
}

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who may write subscriptions gets neither the relay's own variables nor files of the machine, and does not learn which there are.
func TestReferencesLeadToNoOtherSecrets(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	dir, out := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		dir + "/token": "geheim-1", dir + "/own": strings.Repeat("geheim-2", 8), dir + "/pem": "geheim-3", out + "/other": "geheim-4", out + "/x.creds": "geheim-5",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{dir + "/link": out + "/other", dir + "/up": "../" + filepath.Base(out) + "/other", dir + "/fine": "token"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	url, received := webhookReceiver(t, func(r *http.Request) int {
		for name, values := range r.Header {
			if strings.Contains(name+strings.Join(values, ""), "geheim-1") || strings.Contains(strings.Join(values, ""), "mine") {
				continue
			}
			if strings.Contains(strings.Join(values, ""), "geheim") || strings.Contains(strings.Join(values, ""), "postgres") {
				t.Errorf("%s: %s left the relay", name, values)
			}
		}
		return http.StatusOK
	})
	reason := map[string]string{}
	header := func(name, ref string, ok bool) {
		db.Exec(t, `SELECT postrider.subscribe($1, '{>}', $2, jsonb_build_object('options', jsonb_build_object('headers', jsonb_build_object('X-Leak', $3::text))))`, name, url, ref)
		if !ok {
			reason[name] = `open sink: headers["X-Leak"]: ` + ref + ` cannot be used`
		}
	}
	header("prefix", "env:POSTRIDER_SECRET_MINE", true)
	header("allowed", "env:SHOP_TOKEN", true)
	header("inside", "file:"+dir+"/token", true)
	header("symlink-inside", "file:"+dir+"/fine", true)
	header("dots-inside", "file:"+dir+"/x/../token", true)
	header("database", "env:POSTRIDER_DATABASE_URL", false)
	header("password", "env:PGPASSWORD", false)
	header("unset", "env:POSTRIDER_SECRET_NOWHERE", false)
	header("callbacks", "env:POSTRIDER_SECRET_CALLBACKS", false)
	header("callbacks-file", "file:"+dir+"/own", false)
	header("outside", "file:"+out+"/other", false)
	header("outside-missing", "file:"+out+"/missing", false)
	header("dots", "file:"+dir+"/../"+filepath.Base(out)+"/other", false)
	header("symlink", "file:"+dir+"/link", false)
	header("symlink-dots", "file:"+dir+"/up", false)
	header("missing", "file:"+dir+"/missing", false)
	header("system", "file:/etc/passwd", false)
	header("directory", "file:"+dir, false)
	option := func(name, options, setting, ref string) {
		db.Exec(t, `SELECT postrider.subscribe($1, '{>}', 'https://127.0.0.1:1/', jsonb_build_object('options', $2::text::jsonb))`, name, options)
		reason[name] = "open sink: " + setting + ": " + ref + " cannot be used"
	}
	option("ca", `{"tls": {"ca": "/etc/passwd"}}`, "tls.ca", "/etc/passwd")
	option("no-ca", `{"tls": {"ca": "`+dir+`/pem"}}`, "tls.ca", dir+"/pem")
	option("key", `{"tls": {"cert": "`+dir+`/pem", "key": "/etc/shadow"}}`, "tls.key", "/etc/shadow")
	option("proxy", `{"proxy": "env:POSTRIDER_DATABASE_URL"}`, "proxy", "env:POSTRIDER_DATABASE_URL")
	option("no-proxy", `{"proxy": "file:`+dir+`/token"}`, "proxy", "file:"+dir+"/token")
	option("malformed", `{"secrets": ["file:`+dir+`/pem"]}`, "secrets[0]", "file:"+dir+"/pem")
	for name, query := range map[string]string{"creds": "creds=" + out + "/x.creds", "nats-ca": "ca=/etc/passwd", "nats-missing": "creds=" + out + "/missing"} {
		db.Exec(t, `SELECT postrider.subscribe($1, '{>}', $2)`, name, "nats://127.0.0.1:1?"+query)
		setting, path, _ := strings.Cut(query, "=")
		if setting == "creds" {
			path = "file:" + path // the short form of a reference
		}
		reason[name] = "open sink: NATS " + setting + ": " + path + " cannot be used"
	}
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SECRETS_DIR="+dir, "POSTRIDER_SECRETS_ALLOW=SHOP_TOKEN, PATH_OF_IT", "SHOP_TOKEN=mine-1",
		"POSTRIDER_SECRET_MINE=mine-2", "POSTRIDER_SECRET_CALLBACKS="+strings.Repeat("geheim", 9), "PGPASSWORD=geheim-pg",
		"POSTRIDER_CALLBACK_SECRETS=env:POSTRIDER_SECRET_CALLBACKS,file:"+dir+"/own", "POSTRIDER_CALLBACK_ADDR=127.0.0.1:0")
	p.waitFor("msg=relaying")
	db.Exec(t, `SELECT postrider.enqueue('a', '1')`)
	for range 5 {
		receive(t, received)
	}
	is := func(name string) string {
		return one[string](t, db, "SELECT coalesce(max(unable -> '"+name+"' ->> 'reason'), '') FROM postrider.relays")
	}
	for name, want := range reason {
		eventually(t, name+" is left alone", func() bool { return is(name) != "" })
		if got := is(name); got != want {
			t.Errorf("%s: the reason is %q, want %q", name, got, want)
		}
	}
	// The log says more to the relay's operator.
	text, _ := p.out.read()
	for _, want := range []string{"its name has to begin with POSTRIDER_SECRET_, or be in POSTRIDER_SECRETS_ALLOW", "is not in POSTRIDER_SECRETS_DIR", "POSTRIDER_SECRET_NOWHERE is not set", "this relay's own"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "geheim") || strings.Contains(text, "is not a setting") {
		t.Errorf("the log shows too much:\n%s", text)
	}
}

// Who starts a relay or applies a file is told all, with the setting that mends it.
func TestOperatorsAreToldWhatAReferenceLacks(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	file := func(options string) string {
		return writeFile(t, "subscriptions:\n  - name: billing\n    topics: [x]\n    sink: https://h\n    options: "+options+"\n")
	}
	for options, want := range map[string]string{
		`{bearer: env:BILLING}`:                  "bearer: the variable BILLING is not for subscriptions: its name has to begin with POSTRIDER_SECRET_, or be in POSTRIDER_SECRETS_ALLOW",
		`{bearer: env:POSTRIDER_SECRET_BILLING}`: "bearer: the variable POSTRIDER_SECRET_BILLING is not set",
		`{bearer: "file:/run/billing"}`:          "bearer: POSTRIDER_SECRETS_DIR is not set",
	} {
		runCommand(t, []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_CONFIG=" + file(options)}, "", "run").fails("POSTRIDER_CONFIG", ":4: ", want)
		on(t, db.URL(), "subs", "apply", "--dry-run", file(options)).ok("note: billing: "+strings.Replace(want, ": ", ": here, ", 1), "Relays that lack it leave billing to others")
	}
	for setting, want := range map[string]string{
		"POSTRIDER_SECRETS_DIR=secrets":                    "must be an absolute path",
		"POSTRIDER_SECRETS_DIR=/":                          "must be a directory of secrets alone",
		"POSTRIDER_SECRETS_DIR=/etc/passwd":                "must be a directory",
		"POSTRIDER_SECRETS_ALLOW=A,POSTRIDER_DATABASE_URL": "POSTRIDER_DATABASE_URL is a setting of the relay itself",
		"POSTRIDER_SECRETS_ALLOW=PGPASSWORD":               "PGPASSWORD is a setting of the relay itself",
	} {
		runCommand(t, []string{"POSTRIDER_DATABASE_URL=" + db.URL(), setting}, "", "run").fails(strings.SplitN(setting, "=", 2)[0], want)
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/subscription"
)

func TestSettingsDefaults(t *testing.T) {
	t.Parallel()
	runCommand(t, nil, "", "settings").ok(
		"POSTRIDER_RETENTION 24h 24h How long settled",
		"POSTRIDER_MEMORY_LIMIT 64MiB 64MiB",
		"POSTRIDER_HTTP_ADDR 127.0.0.1:8480",
		"POSTRIDER_FOLLOW auto auto")
}

func TestSettingsShowNoSecrets(t *testing.T) {
	t.Parallel()
	env := []string{"POSTRIDER_DATABASE_URL=postgres://u:geheim@h/db", "POSTRIDER_SINK=nats://u:geheim@h?key=geheim", "POSTRIDER_TOPICS=>",
		`POSTRIDER_OPTIONS={"bearer":"geheim","secrets":["geheim"],"headers":{"X-Token":"geheim"}}`, "POSTRIDER_BACKOFF_SCHEDULE=5s, 5m"}
	for _, flags := range [][]string{{"settings"}, {"settings", "--json"}} {
		runCommand(t, env, "", flags...).ok("postgres://u:xxxxx@h/db", "nats://xxxxx@h?key=xxxxx", "5s,5m").lacks("geheim")
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ variable, want string }{
		{"POSTRIDER_RETENTION=5", "must be a number with a unit, such as 500ms, 30s or 24h"},
		{"POSTRIDER_RETENTION=87601h", "must be at most 87600h"},
		{"POSTRIDER_RETENTION=100000000h", "must be a number with a unit, such as 500ms, 30s or 24h, and less than 2562047h"},
		{"POSTRIDER_DRAIN_TIMEOUT=-5s", "must not be negative"},
		{"POSTRIDER_LEASE=100ms", "must be at least 500ms"},
		{"POSTRIDER_MEMORY_LIMIT=64 apples", "must be a number of bytes"},
		{"POSTRIDER_MEMORY_LIMIT=99999999TiB", "must be a number of bytes"},
		{"POSTRIDER_MAX_MESSAGE=0", "must be from 64KiB to 256MiB"},
		{"POSTRIDER_MAX_MESSAGE=1GiB", "must be from 64KiB to 256MiB"},
		{"POSTRIDER_WAL_BUDGET=1KiB", "must be at least 1MiB"},
		{"POSTRIDER_MAX_ATTEMPTS=many", "must be a whole number, at least 1"},
		{"POSTRIDER_LANES=0", "must be a whole number, at least 1"},
		{"POSTRIDER_MIGRATE=perhaps", "must be true or false"},
		{"POSTRIDER_FOLLOW=magic", "must be one of auto, stream, listen, timer"},
		{"POSTRIDER_LOG_LEVEL=loud", "must be debug, info, warn or error"},
		{"POSTRIDER_LOG_FORMAT=xml", "must be one of text, json"},
		{"POSTRIDER_BACKOFF_SCHEDULE=5s,x", "each of the list must be a number with a unit"},
		{"POSTRIDER_OPTIONS=[1]", "POSTRIDER_OPTIONS: must be a JSON object"},
		{"POSTRIDER_POLL_MIN=1s", "POSTRIDER_POLL_MAX=500ms: must be at least POSTRIDER_POLL_MIN (1s)"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			words := []string{c.want}
			if !strings.HasPrefix(c.want, "POSTRIDER_") {
				words = append(words, "postrider: "+c.variable)
			}
			runCommand(t, []string{c.variable}, "", "settings").fails(words...)
		})
	}
}

func TestBlankVariablesCountAsUnset(t *testing.T) {
	t.Parallel()
	env := []string{"POSTRIDER_LANES=", "POSTRIDER_RETENTION= ", "POSTRIDER_MIGRATE=", "POSTRIDER_HTTP_ADDR="}
	r := runCommand(t, env, "", "settings").ok("POSTRIDER_RETENTION 24h", "POSTRIDER_MIGRATE true", "POSTRIDER_HTTP_ADDR 127.0.0.1:8480 Where")
	for _, line := range strings.Split(r.out, "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "POSTRIDER_HTTP_ADDR" && f[2] != "Where" {
			t.Errorf("a blank POSTRIDER_HTTP_ADDR does not stay blank: %s", line)
		}
	}
}

func TestUnknownVariablesAreWarnedAbout(t *testing.T) {
	t.Parallel()
	env := []string{"POSTRIDER_DATABSE_URL=x", "POSTRIDER_SERVICE_HOST=10.0.0.1", "POSTRIDER_PORT_8480_TCP=tcp://10.0.0.1:8480", "POSTRIDER_LANES=3"}
	r := runCommand(t, env, "", "status")
	r.fails("no database: set POSTRIDER_DATABASE_URL", "POSTRIDER_DATABSE_URL is not a setting and has no effect; did you mean POSTRIDER_DATABASE_URL?",
		"POSTRIDER_LANES has no effect without POSTRIDER_SINK").lacks("SERVICE_HOST", "PORT_8480")
}

func TestNoOtherVariableNamesTheDatabase(t *testing.T) {
	t.Parallel()
	runCommand(t, []string{"DATABASE_URL=postgres://127.0.0.1/x"}, "", "status").fails("no database")
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{"topic": "topics", "max_attemps": "max_attempts", "Lanes": "lanes", "quantum": ""} {
		if got := strict.Nearest(word, append([]string{"name", "topics", "sink", "start"}, subscription.Names()...)); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

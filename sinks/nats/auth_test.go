package natssink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// kept is a file of a secret, and what it may be used with.
type kept struct {
	t    *testing.T
	path string
}

func keep(t *testing.T, text string) kept {
	k := kept{t, filepath.Join(t.TempDir(), "secret")}
	k.write(text)
	return k
}

func (k kept) write(text string) {
	k.t.Helper()
	if err := os.WriteFile(k.path+".new", []byte(text+"\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.path+".new", k.path); err != nil {
		k.t.Fatal(err)
	}
}

func (k kept) store() *secret.Store { return &secret.Store{Dir: filepath.Dir(k.path)} }

func newSeed(t *testing.T) (seed, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(text), public
}

// openOptions opens a sink as a subscription with these options does.
func openOptions(t *testing.T, url, options string, secrets *secret.Store) sinks.Sink {
	t.Helper()
	s, err := Destination.Open(t.Context(), sinks.Target{URL: url, Options: []byte(options)}, sinks.Surroundings{Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// delivers waits until the sink delivers.
func delivers(t *testing.T, s sinks.Sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sinktest.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := deliver(t, s, sinktest.NewDelivery("orders.created", "{}"))[0]
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nothing is delivered: %v", err)
		}
	}
}

// Each kind of authentication comes from a reference, and a server that asks for another one is told that, once the file holds it.
func TestAuthenticationRotates(t *testing.T) {
	seeds, publics := [2]string{}, [2]string{}
	for i := range seeds {
		seeds[i], publics[i] = newSeed(t)
	}
	for name, c := range map[string]struct {
		options string
		texts   [2]string
		demand  func(o *server.Options, turn int)
	}{
		"password": {`{"user": "joe", "password": "file:%s", "stream": "ORDERS"}`, [2]string{"geheim-one", "geheim-two"}, func(o *server.Options, turn int) {
			o.Username, o.Password = "joe", [2]string{"geheim-one", "geheim-two"}[turn]
		}},
		"token": {`{"token": "file:%s", "stream": "ORDERS"}`, [2]string{"geheim-one", "geheim-two"}, func(o *server.Options, turn int) {
			o.Authorization = [2]string{"geheim-one", "geheim-two"}[turn]
		}},
		"nkey": {`{"nkey": "file:%s", "stream": "ORDERS"}`, seeds, func(o *server.Options, turn int) {
			o.Nkeys = []*server.NkeyUser{{Nkey: publics[turn]}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := server.Options{Host: "127.0.0.1", NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()}
			srv := startServer(t, func(o *server.Options) { o.StoreDir = base.StoreDir })
			base.Port = srv.Addr().(*net.TCPAddr).Port
			_, js := client(t, srv)
			addStream(t, js, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
			demand := func(turn int) {
				t.Helper()
				o := base
				c.demand(&o, turn)
				if err := srv.ReloadOptions(&o); err != nil {
					t.Fatal(err)
				}
			}
			demand(0)
			file := keep(t, c.texts[0])
			s := openOptions(t, "nats://"+srv.Addr().String(), fmt.Sprintf(c.options, file.path), file.store())
			delivers(t, s)
			demand(1)
			if kind, _ := sinks.Classify(deliver(t, s, sinktest.NewDelivery("orders.created", "{}"))[0]); !kind.Unavailable() {
				t.Errorf("with the old secret the outcome is %v, want unavailable", kind)
			}
			file.write(c.texts[1])
			delivers(t, s)
		})
	}
}

// Errors name the option, and show nothing of what should have been a reference.
func TestOptionsNameTheMistake(t *testing.T) {
	for options, want := range map[string]string{
		`{"steam": "A"}`:                                 `options: unknown key "steam"`,
		`{"stream": 1}`:                                  "options: stream: ",
		`{"user": "joe", "password": "geheim"}`:          "password holds something else than a reference",
		`{"token": "geheim"}`:                            "token holds something else than a reference",
		`{"user": "joe"}`:                                "user and password: it takes both",
		`{"token": "env:A", "nkey": "env:B"}`:            "token and nkey are both given",
		`{"creds": "file:geheim"}`:                       "an absolute path",
		`{"stream": "B"}`:                                "stream is given here and in the sink's URL",
		`{"core": true}`:                                 "use one of the two",
		`{"tls": {"ca": "x.pem"}}`:                       `tls.ca is "x.pem": must be an absolute path`,
		`{"tls": {"min_version": "1.1"}}`:                `tls.min_version is "1.1": must be 1.2 or 1.3`,
		`{"ack_timeout": "-1s"}`:                         "ack_timeout -1s: must be above zero",
		`{"max_pending": -1}`:                            "max_pending -1: must be at least 1",
		`{"guard": {"deny": ["10.0.0.1"]}}`:              `guard.deny has the entry "10.0.0.1"`,
		`{"password": "env:A", "user": "env:POSTRIDER"}`: "",
	} {
		err := Destination.Check(sinks.Target{URL: "nats://host?stream=A", Options: []byte(options)}, nil)
		if want == "" && err == nil {
			continue
		}
		_, ofOptions := errors.AsType[sinks.OptionsError](err)
		if err == nil || !ofOptions || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, want an OptionsError with %q", options, err, want)
		}
	}
	err := Destination.Check(sinks.Target{URL: "nats://joe:geheim@host", Options: []byte(`{"token": "env:A"}`)}, nil)
	if err == nil || !strings.Contains(err.Error(), "user info in the URL and token are both given") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("with a password in the URL: %v", err)
	}
}

// What a reference leads to has to be of use before a sink is opened, and shows nowhere.
func TestReferencesOfNoUse(t *testing.T) {
	seed, _ := newSeed(t)
	for name, c := range map[string]struct{ option, text, want string }{
		"two lines":   {"token", "geheim\ngeheim", "must hold one line"},
		"no seed":     {"nkey", "geheim", "must hold the seed of a user's nkey"},
		"no JWT":      {"creds", "geheim", "must hold a user's JWT and seed"},
		"seed alone":  {"creds", seed, "must hold a user's JWT and seed"},
		"a password,": {"password", "", "is empty"},
	} {
		file := keep(t, c.text)
		options := fmt.Sprintf(`{"%s": "file:%s"}`, c.option, file.path)
		if c.option == "password" {
			options = fmt.Sprintf(`{"user": "joe", "password": "file:%s"}`, file.path)
		}
		err := Destination.Check(sinks.Target{URL: "nats://host", Options: []byte(options)}, file.store())
		hidden, ok := errors.AsType[*secret.HiddenError](err)
		if !ok || !strings.Contains(hidden.Detail(), c.want) || strings.Contains(err.Error()+hidden.Detail(), "geheim") || strings.Contains(hidden.Detail(), seed) {
			t.Errorf("%s: %v, want a HiddenError with %q", name, err, c.want)
		}
	}
}

// Credentials as nsc writes them are read anew when they change, and taught to the redactor without the words around them.
func TestCredentials(t *testing.T) {
	seed, _ := newSeed(t)
	text := "-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.first\n------END NATS USER JWT------\n\n" +
		"************************* IMPORTANT *************************\nNKEY Seed printed below is sensitive.\n\n" +
		"-----BEGIN USER NKEY SEED-----\n" + seed + "\n------END USER NKEY SEED------\n"
	file := keep(t, text)
	store := file.store()
	id, err := Auth{Creds: "file:" + file.path}.read(slog.New(slog.DiscardHandler), store)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if jwt, err := id.creds.Get(now).jwt(); err != nil || !strings.HasSuffix(jwt, ".first") {
		t.Errorf("the JWT is %s, %v", jwt, err)
	}
	file.write(strings.Replace(text, ".first", ".second", 1))
	if jwt, err := id.creds.Get(now.Add(secret.RereadInterval)).jwt(); err != nil || !strings.HasSuffix(jwt, ".second") {
		t.Errorf("the JWT is %s, %v, want the second", jwt, err)
	}
	if shown := store.Redact("IMPORTANT: the sensitive " + seed); shown != "IMPORTANT: the sensitive "+secret.Redacted {
		t.Errorf("redacted: %s", shown)
	}
}

// A password in the address still works, and whoever runs the relay is told what is better.
func TestPasswordInTheAddressWarns(t *testing.T) {
	var log bytes.Buffer
	s, err := New(t.Context(), Config{Servers: []string{"nats://joe:geheim@" + startServer(t, nil).Addr().String()}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if text := log.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "use the options password or token") || strings.Contains(text, "geheim") {
		t.Errorf("the log says %q", text)
	}
}

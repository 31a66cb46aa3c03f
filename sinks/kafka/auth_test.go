package kafkasink

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// keepFile writes a file of a directory that the store may read.
func keepFile(t *testing.T, text string) (path string, store *secret.Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	write(t, path, text)
	return path, &secret.Store{Dir: filepath.Dir(path)}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func openWith(t *testing.T, target sinks.Target, with sinks.Surroundings) *Sink {
	t.Helper()
	s, err := open(target, with)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Each mechanism takes its password from a reference. A wrong one is told apart from an outage, shows nowhere, and works once the file holds another one.
func TestPasswords(t *testing.T) {
	for mechanism := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			k := startKafka(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "joe", "geheim-right"))
			path, store := keepFile(t, "geheim-wrong\n")
			target := k.target(fmt.Sprintf(`{"mechanism": %q, "user": "joe", "password": "file:%s"}`, mechanism, path))
			// A broker says why, and then ends the connection; the fake one ends it at once.
			refuses := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, TopLevel: true, Err: kerr.SaslAuthenticationFailed, Count: -1})
			s := openWith(t, target, sinks.Surroundings{Secrets: store})
			err := deliver(t, s, keyed("a", "1"))[0]
			wantReason(t, err, sinks.KindMisconfigured, "user or password is wrong")
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("the reason shows the password: %v", err)
			}
			refuses.Remove()
			wantReason(t, deliver(t, s, keyed("a", "1"))[0], sinks.KindUnavailable, "may want TLS, none, or another user")
			write(t, path, "geheim-right")
			eventually(t, s, keyed("a", "1"))
		})
	}
}

func TestMechanismThatBrokersDoNotOffer(t *testing.T) {
	k := startKafka(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "joe", "geheim"))
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake}, TopLevel: true, Err: kerr.UnsupportedSaslMechanism, Count: -1}) // the fake one takes any
	path, store := keepFile(t, "geheim")
	s := openWith(t, k.target(fmt.Sprintf(`{"mechanism": "PLAIN", "user": "joe", "password": "file:%s"}`, path)), sinks.Surroundings{Secrets: store})
	wantReason(t, deliver(t, s, keyed("a", "1"))[0], sinks.KindMisconfigured, "option mechanism")
}

// A password that goes over the network as it is takes a warning; over TLS it does not.
func TestPlainPasswordWarns(t *testing.T) {
	path, store := keepFile(t, "geheim")
	for url, warns := range map[string]bool{"kafka://localhost:9092/t": true, "kafkas://localhost:9092/t": false} {
		var log bytes.Buffer
		openWith(t, sinks.Target{URL: url, Options: json.RawMessage(fmt.Sprintf(`{"mechanism": "PLAIN", "user": "joe", "password": "file:%s"}`, path))},
			sinks.Surroundings{Secrets: store, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if strings.Contains(log.String(), "goes over the network as it is") != warns {
			t.Errorf("%s: the log says %q", url, log.String())
		}
	}
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer web.Close()
	k := startKafka(t, kfake.TLS(&tls.Config{Certificates: web.TLS.Certificates}))
	ca, store := keepFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})))
	target := k.target("")
	target.URL = strings.Replace(target.URL, "kafka:", "kafkas:", 1)
	for options, want := range map[string]sinks.Kind{
		fmt.Sprintf(`{"tls": {"ca": %q}}`, ca):                       sinks.KindAccepted,
		fmt.Sprintf(`{"tls": {"ca": %q, "min_version": "1.3"}}`, ca): sinks.KindAccepted,
		`{}`: sinks.KindMisconfigured,
		fmt.Sprintf(`{"tls": {"ca": %q, "server_name": "other.test"}}`, ca): sinks.KindMisconfigured,
	} {
		target.Options = json.RawMessage(options)
		s := openWith(t, target, sinks.Surroundings{Secrets: store})
		if out := deliver(t, s, keyed("a", "1")); want != sinks.KindAccepted {
			wantReason(t, out[0], want, "TLS with "+k.link.Addr())
		} else {
			sinktest.WantKinds(t, out, want)
		}
	}
	// Options of TLS are enough: no connection does without it then.
	target.URL = strings.Replace(target.URL, "kafkas:", "kafka:", 1)
	target.Options = json.RawMessage(fmt.Sprintf(`{"tls": {"ca": %q}}`, ca))
	sinktest.WantKinds(t, deliver(t, openWith(t, target, sinks.Surroundings{Secrets: store}), keyed("a", "1")), sinks.KindAccepted)
}

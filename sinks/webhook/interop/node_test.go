package interop

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook"
)

// startNode installs what node/package-lock.json names, unless that is there, and starts node/receiver.mjs. It returns
// the receiver's URL.
func startNode(t *testing.T, secrets ...string) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: the libraries for JavaScript were not tried", program)
		}
	}
	install(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", "receiver.mjs")
	cmd.Dir, cmd.Stderr, cmd.Env = "node", os.Stderr, append(os.Environ(), "SECRETS="+strings.Join(secrets, " "))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		timer := time.AfterFunc(10*time.Second, cancel)
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the receiver: %v", err)
		}
		cancel()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver did not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

func install(t *testing.T) {
	t.Helper()
	lock, err := os.ReadFile("node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	stamp, sum := filepath.Join("node", "node_modules", ".installed"), fmt.Sprintf("%x", sha256.Sum256(lock))
	if have, err := os.ReadFile(stamp); err == nil && string(have) == sum {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "node"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(stamp, []byte(sum), 0o644); err != nil {
		t.Fatal(err)
	}
}

// call asks the receiver for its events, or with DELETE to forget them.
func call(t *testing.T, method, url string) (events []map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &events)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return events
}

func TestJavaScriptLibraries(t *testing.T) {
	k := newKeys(t)
	refs := k.setEnv(t)
	url := startNode(t, k.hmac, k.public)
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			call(t, http.MethodDelete, url)
			s := open(t, url, webhook.Options{Format: format, Secrets: refs})
			all := samples()
			if format == webhook.FormatBinary {
				all = all[:len(all)-1]
			}
			var batch []sinks.Delivery
			for _, one := range all {
				batch = append(batch, one.Delivery)
			}
			deliver(t, s, batch...)
			events := call(t, http.MethodGet, url)
			if len(events) != len(all) {
				t.Fatalf("%d events arrived, want %d", len(events), len(all))
			}
			for i, want := range all {
				wantJSON(t, format, events[i], want)
			}
		})
	}
}

func wantJSON(t *testing.T, format string, e map[string]any, want sample) {
	t.Helper()
	attributes := map[string]any{
		"specversion": "1.0", "id": want.MessageID, "source": "/postrider/5eed0123", "type": want.Topic, "time": "2026-01-02T03:04:05.678Z",
		"datacontenttype": want.contentType,
	}
	if want.Key != "" {
		attributes["subject"], attributes["partitionkey"] = want.Key, want.Key
	}
	if format != webhook.FormatBinary {
		attributes["postridertopic"], attributes["postriderattempt"] = want.Topic, 1.0
	}
	for name, value := range attributes {
		if e[name] != value {
			t.Errorf("%s: %s is %v, want %v", want.MessageID, name, e[name], value)
		}
	}
	var data any = string(want.Payload) // the library leaves what is not application/json as text
	switch {
	case want.contentType == "application/json":
		if err := json.Unmarshal(want.Payload, &data); err != nil {
			t.Fatal(err)
		}
	case format != webhook.FormatBinary:
		if got := e["data_base64"]; got != base64.StdEncoding.EncodeToString(want.Payload) {
			t.Errorf("%s: data_base64 is %v", want.MessageID, got)
		}
		return
	}
	got, _ := json.Marshal(e["data"])
	if text, _ := json.Marshal(data); string(got) != string(text) {
		t.Errorf("%s: data is %s, want %s", want.MessageID, got, text)
	}
}

// The payload alone is what receivers take who know Standard Webhooks and nothing else.
func TestJavaScriptVerifiesPayloads(t *testing.T) {
	k := newKeys(t)
	url := startNode(t, k.hmac, k.public)
	all := samples()
	all = all[:len(all)-1]
	var batch []sinks.Delivery
	for _, one := range all {
		batch = append(batch, one.Delivery)
	}
	deliver(t, open(t, url, webhook.Options{Secrets: k.setEnv(t)}), batch...)
	events := call(t, http.MethodGet, url)
	if len(events) != len(all) {
		t.Fatalf("%d messages arrived, want %d", len(events), len(all))
	}
	for i, want := range all {
		if e := events[i]; e["id"] != want.MessageID || e["topic"] != want.Topic || e["data"] != string(want.Payload) {
			t.Errorf("arrived as %v, want %+v", e, want.Message)
		}
	}
}

// A forged request must not pass, or the tests above prove nothing.
func TestReceiversRefuseForgeries(t *testing.T) {
	k := newKeys(t)
	other := newKeys(t)
	refs := k.setEnv(t)
	for name, secrets := range map[string][]string{"v1": {other.hmac}, "v1a": {other.public}} {
		url := startNode(t, secrets...)
		s := open(t, url, webhook.Options{Secrets: refs})
		outcomes := make([]error, 1)
		s.Deliver(t.Context(), []sinks.Delivery{samples()[0].Delivery}, outcomes)
		if outcomes[0] == nil || !strings.Contains(outcomes[0].Error(), "422") {
			t.Errorf("%s: a request signed with another secret: %v", name, outcomes[0])
		}
	}
	if err := other.verify(http.Header{}, nil); err == nil {
		t.Error("nothing verifies")
	}
}

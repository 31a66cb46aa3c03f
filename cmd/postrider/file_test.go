package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFile(t *testing.T) {
	t.Setenv("HOOK_TOKEN", "geheim")
	specs, err := readFile(writeFile(t, `
subscriptions:
  - &first
    name: billing
    topics: &all [orders.>, 'payments.*']
    sink: https://host/hook?token=${HOOK_TOKEN}
    start: earliest
    ordering: strict
    on_dead: hold
    max_attempts: 10
    lanes: 2
    batch: 3
    timeout: 30s
    backoff_initial: 2s
    backoff_max: 5m
    max_parked: 50
  - {name: second, topics: *all, sink: "stdout:"}
  - <<: *first
    name: third
`), checkSink)
	if err != nil {
		t.Fatal(err)
	}
	second := func(n int) relay.Duration { return relay.Duration(time.Duration(n) * time.Second) }
	first := spec{start: "earliest", Subscription: relay.Subscription{
		Name: "billing", Topics: []string{"orders.>", "payments.*"}, Sink: "https://host/hook?token=geheim",
		Settings: relay.Settings{Ordering: "strict", OnDead: "hold", MaxAttempts: 10, Lanes: 2, Batch: 3, Timeout: second(30),
			BackoffInitial: second(2), BackoffMax: second(300), MaxParked: 50}}}
	third := first
	third.Name = "third"
	want := []spec{first, {start: "now", Subscription: relay.Subscription{Name: "second", Topics: first.Topics, Sink: "stdout:"}}, third}
	if !reflect.DeepEqual(specs, want) {
		t.Errorf("got  %+v\nwant %+v", specs, want)
	}
}

func TestFileProblems(t *testing.T) {
	const head = "subscriptions:\n  - name: a\n    topics: [x]\n    sink: 'stdout:'\n"
	for name, c := range map[string]struct {
		text  string
		wants []string
	}{
		"unknown key":     {head + "    topic: [y]\n", []string{`:5: unknown key "topic"`, "known here: name, topics, sink, start, ordering", `did you mean "topics"?`}},
		"unknown top key": {"subscription: []\n", []string{`:1: unknown key "subscription": known here: subscriptions`}},
		"bad name":        {strings.Replace(head, "name: a", "name: A b", 1), []string{`:2: name "A b": must be 1 to 63 lower-case letters`}},
		"bad pattern":     {strings.Replace(head, "[x]", "[x, 'a b', 'c.>.d']", 1), []string{":3: ", `"a b"`, `"c.>.d"`, "2 problems"}},
		"no topics":       {strings.Replace(head, "[x]", "[]", 1), []string{":3: no topics"}},
		"topics no list":  {strings.Replace(head, "[x]", "x", 1), []string{":3: topics must be a list"}},
		"bad scheme":      {strings.Replace(head, "stdout:", "kafka://h", 1), []string{`:4: sink kafka://h: the scheme "kafka" is unknown; known are http, https, nats, stdout, tls`}},
		"no scheme":       {strings.Replace(head, "stdout:", "host", 1), []string{`:4: sink "host": must be a URL such as`}},
		"bad webhook":     {strings.Replace(head, "stdout:", "https://u:geheim@", 1), []string{":4: sink https://xxxxx@: "}},
		"bad nats":        {strings.Replace(head, "stdout:", "nats://h?strem=X", 1), []string{":4: ", `unknown setting "strem"`}},
		"bad start":       {head + "    start: yesterday\n", []string{`:5: start "yesterday": must be now, earliest or a time`}},
		"bad number":      {head + "    max_attempts: many\n", []string{`:5: max_attempts "many": must be a whole number`}},
		"zero":            {head + "    lanes: 0\n", []string{`:5: lanes "0"`}},
		"too many":        {head + "    lanes: 5000\n", []string{":5: lanes 5000: must be from 1 to 4096"}},
		"bad duration":    {head + "    timeout: 30\n", []string{`:5: timeout "30": must be a number with a unit`}},
		"bad ordering":    {head + "    ordering: random\n", []string{`:5: ordering "random": must be key, none or strict`}},
		"backoff":         {head + "    backoff_initial: 1h\n    backoff_max: 1m\n", []string{":6: ", "backoff_max not below backoff_initial"}},
		"empty value":     {head + "    lanes:\n", []string{":5: lanes is empty"}},
		"list as value":   {head + "    lanes: [1]\n", []string{":5: lanes must be a single value"}},
		"duplicate name":  {head + strings.TrimPrefix(head, "subscriptions:\n"), []string{`:5: the name "a" is taken by the subscription in line 2`}},
		"duplicate key":   {head + "    name: b\n", []string{":5: "}},
		"missing":         {"subscriptions:\n  - name: a\n", []string{":2: a subscription without topics", ":2: a subscription without sink"}},
		"unset":           {strings.Replace(head, "stdout:", "https://h/${NO_SUCH_VARIABLE}", 1), []string{":4: sink: the environment variable NO_SUCH_VARIABLE is not set"}},
		"empty":           {"", []string{":1: no subscriptions"}},
		"no yaml":         {"subscriptions: [\n", []string{":1: "}},
		"a list":          {"- a\n", []string{":1: the file must be a mapping"}},
		"bare > in []":    {strings.Replace(head, "[x]", "[>]", 1), []string{":3: ", "needs quotes: '>'"}},
		"bare > in list":  {strings.Replace(head, "[x]", "\n      - >", 1), []string{":", "needs quotes: '>'"}},
		"endless":         {"&a <<: *a\n", []string{":1: what << merges is the mapping that << stands in"}},
		"several":         {head + "    lanes: x\n    on_dead: explode\n", []string{"has 2 problems", ":5: lanes", ":6: on_dead"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, c.text)
			_, err := readFile(path, checkSink)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.wants {
				if strings.HasPrefix(want, ":") {
					want = path + want
				}
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("a secret shows: %v", err)
			}
		})
	}
}

func TestFilesOfAnotherMachine(t *testing.T) {
	s := relay.Subscription{Sink: "nats://h?creds=/nowhere/x.creds"}
	if err := checkSink(s); err == nil || !strings.Contains(err.Error(), "/nowhere/x.creds") {
		t.Errorf("checkSink: %v", err)
	}
	if err := checkSinkElsewhere(s); err != nil {
		t.Errorf("checkSinkElsewhere: %v", err)
	}
}

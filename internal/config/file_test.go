package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

func TestReadFile(t *testing.T) {
	t.Setenv("HOOK_TOKEN", "geheim")
	t.Setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
	specs, err := ReadFile(written(t, `
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
    linger: 50ms
    options: &o
      format: batch
      secrets: [env:HOOK_SECRET]
      headers: {X-Shop: "42"}
      rate: 2.5
      http2: false
  - {name: second, topics: *all, sink: "stdout:"}
  - <<: *first
    name: third
  - name: fourth
    topics: *all
    sink: http://host
    backoff_schedule: [5s, 1m]
    options:
      <<: *o
      format: ndjson
`), testSettings.checkSink)
	if err != nil {
		t.Fatal(err)
	}
	second := func(n int) subscription.Duration { return subscription.Duration(time.Duration(n) * time.Second) }
	first := subscription.Spec{Start: "earliest", Subscription: subscription.Subscription{
		Name: "billing", Topics: []string{"orders.>", "payments.*"}, Sink: "https://host/hook?token=geheim",
		Settings: subscription.Settings{Ordering: "strict", OnDead: "hold", MaxAttempts: 10, Lanes: 2, Batch: 3, Timeout: second(30),
			BackoffInitial: second(2), BackoffMax: second(300), MaxParked: 50, Details: subscription.Details{Linger: second(1) / 20},
			Options: []byte(`{"format":"batch","headers":{"X-Shop":"42"},"http2":false,"rate":2.5,"secrets":["env:HOOK_SECRET"]}`)}}}
	third := first
	third.Name = "third"
	want := []subscription.Spec{first, {Start: "now", Subscription: subscription.Subscription{Name: "second", Topics: first.Topics, Sink: "stdout:"}}, third,
		{Start: "now", Subscription: subscription.Subscription{Name: "fourth", Topics: first.Topics, Sink: "http://host", Settings: subscription.Settings{
			BackoffSchedule: []subscription.Duration{second(5), second(60)},
			Options:         []byte(`{"format":"ndjson","headers":{"X-Shop":"42"},"http2":false,"rate":2.5,"secrets":["env:HOOK_SECRET"]}`)}}}}
	if !reflect.DeepEqual(specs, want) {
		t.Errorf("got  %+v\nwant %+v", specs, want)
	}
}

func TestFileProblems(t *testing.T) {
	const head = "subscriptions:\n  - name: a\n    topics: [x]\n    sink: 'stdout:'\n"
	hook := strings.Replace(head, "stdout:", "https://h", 1)
	for name, c := range map[string]struct {
		text  string
		wants []string
	}{
		"unknown key":       {head + "    topic: [y]\n", []string{`:5: unknown key "topic"`, "known here: name, topics, sink, start, ordering", `did you mean "topics"?`}},
		"unknown top key":   {"subscription: []\n", []string{`:1: unknown key "subscription": known here: subscriptions`}},
		"bad name":          {strings.Replace(head, "name: a", "name: A b", 1), []string{`:2: name "A b": must be 1 to 63 lower-case letters`}},
		"bad pattern":       {strings.Replace(head, "[x]", "[x, 'a b', 'c.>.d']", 1), []string{":3: ", `"a b"`, `"c.>.d"`, "2 problems"}},
		"no topics":         {strings.Replace(head, "[x]", "[]", 1), []string{":3: no topics"}},
		"topics no list":    {strings.Replace(head, "[x]", "x", 1), []string{":3: topics must be a list"}},
		"bad scheme":        {strings.Replace(head, "stdout:", "gopher://h", 1), []string{`:4: sink gopher://h: the scheme "gopher" is unknown; known are amqp, amqps, http, https, kafka, kafkas, mqtt, mqtts, nats, postgres, postgresql, pubsub, pull, redis, rediss, sns, sql, sqs, stdout, tls`}},
		"no scheme":         {strings.Replace(head, "stdout:", "host", 1), []string{`:4: sink "host": must be a URL such as`}},
		"bad webhook":       {strings.Replace(head, "stdout:", "https://u:geheim@", 1), []string{":4: sink https://xxxxx@: "}},
		"bad nats":          {strings.Replace(head, "stdout:", "nats://h?strem=X", 1), []string{":4: ", `unknown setting "strem"`}},
		"bad start":         {head + "    start: yesterday\n", []string{`:5: start "yesterday": must be now, earliest or a time`}},
		"bad number":        {head + "    max_attempts: many\n", []string{`:5: max_attempts "many": must be a whole number`}},
		"zero":              {head + "    lanes: 0\n", []string{`:5: lanes "0"`}},
		"too many":          {head + "    lanes: 5000\n", []string{":5: lanes 5000: must be from 1 to 4096"}},
		"bad duration":      {head + "    timeout: 30\n", []string{`:5: timeout "30": must be a number with a unit`}},
		"bad ordering":      {head + "    ordering: random\n", []string{`:5: ordering "random": must be key, none or strict`}},
		"backoff":           {head + "    backoff_initial: 1h\n    backoff_max: 1m\n", []string{":6: ", "backoff_max not below backoff_initial"}},
		"schedule":          {head + "    backoff_schedule: [5s, soon]\n", []string{`:5: backoff_schedule "5s,soon": each of the list must be a number with a unit`}},
		"no schedule":       {head + "    backoff_schedule: 5s\n", []string{":5: backoff_schedule must be a list"}},
		"both backoffs":     {head + "    backoff_schedule: [5s]\n    backoff_max: 1m\n", []string{":6: ", "excludes backoff_initial and backoff_max"}},
		"linger":            {head + "    linger: 1h\n", []string{":5: linger 1h0m0s: must be from 0s to 10m0s"}},
		"stdout options":    {head + "    options: {rate: 1}\n", []string{":5: options: stdout takes none"}},
		"nats options":      {strings.Replace(head, "stdout:", "nats://h", 1) + "    options: {rate: 1}\n", []string{`:5: options: unknown key "rate": known here: stream`}},
		"options a list":    {head + "    options: [1]\n", []string{":5: options must be a mapping"}},
		"unknown option":    {hook + "    options: {fromat: batch}\n", []string{`:5: options: unknown key "fromat": known here: format, batch_bytes`, `did you mean "format"?`}},
		"nested option":     {hook + "    options:\n      rate: 2\n      tls:\n        min_version: '1.3'\n        certt: x\n", []string{`:9: options: tls: unknown key "certt": known here: ca, cert`}},
		"kind of option":    {hook + "    options:\n      burst: 2\n      rate: fast\n", []string{`:7: options: rate: must be a number, not a text`}},
		"wrong options":     {hook + "    options:\n      burst: 2.5\n      dead: 404\n      async_lease: 30\n", []string{"has 3 problems", `:6: options: burst: must be a whole number, not a number with a fraction`, `:7: options: dead: must be a list, not a number`, `:8: options: async_lease: duration "30": must be a number with a unit`}},
		"wrong option":      {hook + "    options:\n      format: avro\n", []string{`:6: options: format "avro": must be raw, binary`}},
		"open secret":       {hook + "    options: {bearer: geheim}\n", []string{`:5: options: bearer holds something else than a reference`}},
		"no such secret":    {hook + "    options: {bearer: env:NO_SUCH_VARIABLE}\n", []string{`:4: sink https://h: bearer: the variable NO_SUCH_VARIABLE is not set`}},
		"filter":            {head + "    filter: paylod.total > 100\n", []string{`:5: filter: line 1, column 1: nothing is called 'paylod' (did you mean 'payload'?)`}},
		"filter of lines":   {head + "    filter: |\n      payload.total > 100 &&\n      hedaers.region == 'eu'\n", []string{`:7: filter: line 2, column 1: nothing is called 'hedaers'`}},
		"folded filter":     {head + "    filter: >-\n      payload.total > 100 &&\n      hedaers.region == 'eu'\n", []string{`:5: filter: line 1, column 24: nothing is called 'hedaers'`}},
		"filter no bool":    {head + "    filter: topic\n", []string{`:5: filter: line 1, column 1: its value must be true or false`}},
		"transform":         {head + "    transform:\n      topic: topic\n      payload: |-\n        {\n          'id': payload.id,\n          'sum': total\n        }\n", []string{`:10: transform.payload: line 3, column 10: nothing is called 'total'`}},
		"transform no map":  {head + "    transform: payload.total\n", []string{`:5: transform must be a mapping`}},
		"transform of yaml": {head + "    transform: {payload: {a: payload.b}}\n", []string{`:5: transform.payload: must be a text, not an object`}},
		"limits by":         {head + "    limits:\n      per:\n        rate: 1/s\n        by: cel:paylod.x\n", []string{`:8: limits.per.by cel: line 1, column 1: nothing is called 'paylod'`}},
		"filter in SQL":     {strings.Replace(head, "stdout:", "sql:", 1) + "    filter: 'true'\n", []string{`:4: filter, transform: a subscription with the sink sql: has neither`}},
		"empty value":       {head + "    lanes:\n", []string{":5: lanes is empty"}},
		"list as value":     {head + "    lanes: [1]\n", []string{":5: lanes must be a single value"}},
		"duplicate name":    {head + strings.TrimPrefix(head, "subscriptions:\n"), []string{`:5: the name "a" is taken by the subscription in line 2`}},
		"duplicate key":     {head + "    name: b\n", []string{":5: "}},
		"missing":           {"subscriptions:\n  - name: a\n", []string{":2: a subscription without topics", ":2: a subscription without sink"}},
		"unset":             {strings.Replace(head, "stdout:", "https://h/${NO_SUCH_VARIABLE}", 1), []string{":4: sink: the environment variable NO_SUCH_VARIABLE is not set"}},
		"empty":             {"", []string{":1: no subscriptions"}},
		"no yaml":           {"subscriptions: [\n", []string{":1: "}},
		"a list":            {"- a\n", []string{":1: the file must be a mapping"}},
		"bare > in []":      {strings.Replace(head, "[x]", "[>]", 1), []string{":3: ", "needs quotes: '>'"}},
		"bare > in list":    {strings.Replace(head, "[x]", "\n      - >", 1), []string{":", "needs quotes: '>'"}},
		"endless":           {"&a <<: *a\n", []string{":1: what << merges is the mapping that << stands in"}},
		"several":           {head + "    lanes: x\n    on_dead: explode\n", []string{"has 2 problems", ":5: lanes", ":6: on_dead"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, c.text)
			_, err := ReadFile(path, testSettings.checkSink)
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

// YAML takes what ends with a colon for a key.
func TestStdoutNeedsNoQuotes(t *testing.T) {
	for _, text := range []string{
		"subscriptions:\n  - name: a\n    topics: [x]\n    sink: stdout:\n    lanes: 2\n",
		"subscriptions:\n  - sink: stdout:   # to look at\n    name: a\n    topics: [x]\n    lanes: 2",
		"subscriptions: [{name: a, topics: [x], lanes: 2, sink: stdout:}]\n",
		"subscriptions: [{name: a, sink: stdout: , topics: [x], lanes: 2}]\n",
		"subscriptions:\r\n  - name: a\r\n    topics: [x]\r\n    sink: stdout:\r\n    lanes: 2\r\n",
	} {
		specs, err := ReadFile(written(t, text), testSettings.checkSink)
		if err != nil || len(specs) != 1 || specs[0].Sink != "stdout:" || specs[0].Name != "a" || specs[0].Settings.Lanes != 2 {
			t.Errorf("%q: %+v, %v", text, specs, err)
		}
	}
}

// testSettings let subscriptions use what the files of these tests refer to.
var testSettings = &Settings{SecretsDir: "/etc", SecretsAllow: variableList{"HOOK_SECRET", "NO_SUCH_VARIABLE"}}

func TestFilesOfAnotherMachine(t *testing.T) {
	s := subscription.Subscription{Sink: "nats://h?creds=/etc/no/x.creds"}
	if err := testSettings.checkSink(s); err == nil || !strings.Contains(err.Error(), "no/x.creds") {
		t.Errorf("checkSink: %v", err)
	}
	if err := destination.CheckElsewhere(s); err != nil {
		t.Errorf("checkSinkElsewhere: %v", err)
	}
	s = subscription.Subscription{Sink: "https://h", Settings: subscription.Settings{Options: []byte(`{"bearer":"file:/etc/no/token"}`)}}
	if err := testSettings.checkSink(s); err == nil || !strings.Contains(err.Error(), "no/token") {
		t.Errorf("checkSink: %v", err)
	}
	if err := destination.CheckElsewhere(s); err != nil {
		t.Errorf("checkSinkElsewhere: %v", err)
	}
}

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

package kubernetes

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/postrider/postrider/internal/config"
)

const chartDir = "../helm/postrider"

// least are the values that have no default.
const least = `
image: {repository: registry.example/postrider}
database: {secret: shop-database}
migrate: {secret: shop-owner, grantRelay: relay, grantApp: app}
`

// most uses all that the chart has.
const most = `
image: {repository: registry.example/postrider, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
imagePullSecrets: [registry]
replicas: 3
database: {secret: shop-database, key: relay-url, replicaKey: replica-url}
migrate: {secret: shop-owner, grantRelay: relay, stream: true, grantApp: app}
settings: {POSTRIDER_FOLLOW: auto, POSTRIDER_RETENTION: 48h, POSTRIDER_LOG_LEVEL: debug}
drainSeconds: 45
subscriptions:
  - name: billing
    topics: [payments.*]
    sink: https://billing.example/hooks
    backoff_schedule: [5s, 1m]
    options: {secrets: ["file:/run/postrider/secrets/billing"], format: batch}
  - {name: mail, topics: [mail.>], sink: "pull:"}
secrets: shop-secrets
api:
  enabled: true
  secret: shop-tokens
  tokens: [{name: ops, role: operator, key: operations}, {name: mailer, role: worker, subscriptions: [mail, sms]}]
  hidePayloads: true
callbacks: {enabled: true, url: "https://hooks.shop.example/postrider", secret: shop-callbacks, keys: [new, old]}
service: {type: LoadBalancer, annotations: {a.example/b: c}}
networkPolicy:
  apiFrom: [{podSelector: {matchLabels: {worker: "yes"}}}]
  callbacksFrom: [{namespaceSelector: {matchLabels: {ingress: "yes"}}}]
  databaseTo: [{ipBlock: {cidr: 10.1.2.3/32}}]
podMonitor: {enabled: true, labels: {release: prometheus}}
podAnnotations: {a: b}
podLabels: {team: shop}
nodeSelector: {disk: ssd}
tolerations: [{key: only, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
priorityClassName: high
`

// none switches off what can be.
const none = `
image: {repository: registry.example/postrider, tag: "1.2.3"}
database: {secret: shop-database}
migrate: {enabled: false}
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
`

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// template renders the chart as `helm template` does: its schema is asked about the values.
func template(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	c := loadChart(t)
	all, err := util.ToRenderValues(c, given, common.ReleaseOptions{Name: "shop", Namespace: "shop", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(c, all)
}

func render(t *testing.T, values string) *manifests {
	t.Helper()
	files, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			m.addAll(t, name, files[name])
		}
	}
	return m
}

// everything is all that there is: files, and the chart with several values.
func everything(t *testing.T) map[string]*manifests {
	t.Helper()
	return map[string]*manifests{
		"migrate.yaml": read(t, "migrate.yaml"), "sidecar.yaml": read(t, "sidecar.yaml"), "standalone.yaml": read(t, "standalone.yaml"),
		"chart of least": render(t, least), "chart of most": render(t, most), "chart of none": render(t, none),
	}
}

func TestChartMakesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	count := func(m *manifests) []int {
		return []int{len(m.accounts), len(m.configs), len(m.services), len(m.deployments), len(m.jobs), len(m.budgets), len(m.policies), len(m.monitors)}
	}
	for values, want := range map[string][]int{least: {1, 0, 1, 1, 1, 1, 1, 0}, most: {1, 1, 1, 1, 1, 1, 1, 1}, none: {1, 0, 1, 1, 0, 0, 0, 0}} {
		if got := count(render(t, values)); !slices.Equal(got, want) {
			t.Errorf("accounts, configs, services, deployments, jobs, budgets, policies, monitors: %v, want %v, of%s", got, want, values)
		}
	}
	m := render(t, most)
	if got, want := m.jobs[0].Spec.Template.Spec.Containers[0].Args, []string{"migrate", "--grant-relay", "relay", "--grant-app", "app"}; !slices.Equal(got, want) {
		t.Errorf("it migrates with %q, want %q", got, want)
	}
	if got, want := render(t, least).jobs[0].Spec.Template.Spec.Containers[0].Args[1], "--grant-relay-no-stream"; got != want {
		t.Errorf("it migrates with %q, want %q", got, want)
	}
	if got, want := m.jobs[0].Annotations["helm.sh/hook"], "pre-install,pre-upgrade"; got != want {
		t.Errorf("the schema is brought up to date at %q, want %q", got, want)
	}
	tokens := variable(*podOf{"", &m.deployments[0].Spec.Template}.relay(), "POSTRIDER_API_TOKENS").Value
	if want := "ops:operator=file:/run/postrider/api/operations,mailer:worker[mail sms]=file:/run/postrider/api/mailer"; tokens != want {
		t.Errorf("the tokens are %s, want %s", tokens, want)
	}
}

// TestChangedSubscriptionsStartRelaysAnew: a relay reads them at its start.
func TestChangedSubscriptionsStartRelaysAnew(t *testing.T) {
	t.Parallel()
	sum := func(values string) string {
		return render(t, values).deployments[0].Spec.Template.Annotations["checksum/subscriptions"]
	}
	if one, other := sum(most), sum(strings.Replace(most, "payments.*", "payments.>", 1)); one == other || one == "" {
		t.Errorf("the pods stay as they are: %q, %q", one, other)
	}
	if one, other := sum(most), sum(strings.Replace(most, "replicas: 3", "replicas: 2", 1)); one != other {
		t.Error("the pods change with the number of relays")
	}
}

// TestChartRefusesWhatIsWrong: and says what is.
func TestChartRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ values, word string }{
		{strings.Replace(least, "image: {repository: registry.example/postrider}", "", 1), "image.repository"},
		{strings.Replace(least, "database: {secret: shop-database}", "", 1), "database.secret"},
		{strings.Replace(least, "secret: shop-owner, ", "", 1), "migrate.secret"},
		{least + "replica: 2\n", "replica"},
		{least + "settings: {POSTRIDER_RETENTOIN: 24h}\n", "POSTRIDER_RETENTOIN"},
		{least + "settings: {POSTRIDER_DATABASE_URL: postgres://relay:geheim@db/shop}\n", "POSTRIDER_DATABASE_URL"},
		{least + "settings: {POSTRIDER_LANES: 1000000000}\n", "POSTRIDER_LANES"}, // Helm would write 1e+09
		{least + "api: {enabled: true, secret: tokens}\n", "tokens"},
		{least + "api: {enabled: true, tokens: [{name: ops, role: operator}]}\n", "api.secret"},
		{least + "api: {enabled: true, secret: tokens, tokens: [{name: ops, role: root}]}\n", "role"},
		{least + "callbacks: {enabled: true, secret: callbacks}\n", "callbacks.url"},
		{least + "callbacks: {enabled: true, url: 'https://hooks.example'}\n", "callbacks.secret"},
		{least + "subscriptions: [{name: a, topics: ['>']}]\n", "sink"},
		{least + "extraEnv: [{name: POSTRIDER_LANES, value: '4'}]\n", "extraEnv"}, // settings has it
		{least + "extraEnv: [{name: OTEL_BSP_MAX_QUEUE_SIZE, value: 100000000}]\n", "extraEnv"},
	} {
		if _, err := template(t, c.values); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v", c.word, err)
		}
	}
}

// TestChartTakesOtherVariables: such as OpenTelemetry's, also from Secrets; relays get them, the Job that migrates does not.
func TestChartTakesOtherVariables(t *testing.T) {
	t.Parallel()
	m := render(t, least+`
extraEnv:
  - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://otel-collector.monitoring:4318"}
  - {name: OTEL_EXPORTER_OTLP_HEADERS, valueFrom: {secretKeyRef: {name: otel, key: headers}}}
`)
	relay := *podOf{"", &m.deployments[0].Spec.Template}.relay()
	if v := variable(relay, "OTEL_EXPORTER_OTLP_ENDPOINT"); v == nil || v.Value != "http://otel-collector.monitoring:4318" {
		t.Errorf("the endpoint is %v", v)
	}
	if v := variable(relay, "OTEL_EXPORTER_OTLP_HEADERS"); v == nil || v.ValueFrom == nil || v.ValueFrom.SecretKeyRef == nil || v.ValueFrom.SecretKeyRef.Name != "otel" {
		t.Errorf("the headers are %v", v)
	}
	if v := variable(m.jobs[0].Spec.Template.Spec.Containers[0], "OTEL_EXPORTER_OTLP_ENDPOINT"); v != nil {
		t.Errorf("the Job that migrates has %v", v)
	}
}

// ownSettings are those that values of their own make.
var ownSettings = []string{"POSTRIDER_API_ADDR", "POSTRIDER_API_HIDE_PAYLOADS", "POSTRIDER_API_TOKENS", "POSTRIDER_API_URL", "POSTRIDER_CALLBACK_ADDR",
	"POSTRIDER_CALLBACK_SECRETS", "POSTRIDER_CALLBACK_URL", "POSTRIDER_CONFIG", "POSTRIDER_DATABASE_URL", "POSTRIDER_DRAIN_TIMEOUT", "POSTRIDER_HTTP_ADDR",
	"POSTRIDER_MIGRATE", "POSTRIDER_REPLICA_URL", "POSTRIDER_SECRETS_DIR"}

// TestChartKnowsAllSettings: each setting can be given, by a value of its own or by its name.
func TestChartKnowsAllSettings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Settings struct {
				PropertyNames struct{ Enum []string } `json:"propertyNames"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, v := range new(config.Settings).Variables() {
		if !slices.Contains(ownSettings, v.Name) {
			want = append(want, v.Name)
		}
	}
	if got := schema.Properties.Settings.PropertyNames.Enum; !slices.Equal(got, want) {
		t.Errorf("values.schema.json knows the settings\n%q, want\n%q", got, want)
	}
	for _, name := range ownSettings {
		found := false
		for _, m := range everything(t) {
			for _, p := range m.pods() {
				found = found || slices.ContainsFunc(p.containers(), func(c corev1.Container) bool { return variable(c, name) != nil })
			}
		}
		if !found {
			t.Errorf("no value makes %s", name)
		}
	}
}

func TestNotesSayHowToLook(t *testing.T) {
	t.Parallel()
	files, err := template(t, most)
	if err != nil {
		t.Fatal(err)
	}
	notes := files["postrider/templates/NOTES.txt"]
	for _, word := range []string{"with 3 relays", "deploy/shop-postrider -- /postrider doctor", "port-forward service/shop-postrider 8482", "Secret shop-tokens"} {
		if !strings.Contains(notes, word) {
			t.Errorf("the notes lack %q:\n%s", word, notes)
		}
	}
	if left := regexp.MustCompile(`<no value>|%!`).FindString(notes); left != "" {
		t.Errorf("the notes have %q:\n%s", left, notes)
	}
}

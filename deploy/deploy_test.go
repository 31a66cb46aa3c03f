// Package deploy holds examples of deployments; its tests look for slips in them.
package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// compose is the part of a Compose file that can be checked without an engine.
type compose struct {
	Name     string
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Target string }
		Command     []string
		Profiles    []string
		Environment map[string]string
		Volumes     []string
		Ports       []string
		Restart     string
		Healthcheck struct {
			Test     []string
			Interval string
			Timeout  string
			Retries  int
		}
		DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	Volumes map[string]any
}

// load parses a YAML file into v and refuses unknown keys.
func load(t *testing.T, path string, v any) {
	t.Helper()
	if err := yaml.UnmarshalWithOptions(read(t, path), v, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCompose(t *testing.T) {
	var c compose
	load(t, "compose.yaml", &c)
	dockerfile := string(read(t, "../Dockerfile"))
	for name, s := range c.Services {
		if (s.Image == "") == (s.Build.Target == "") {
			t.Errorf("%s needs an image or a build", name)
		}
		if s.Image != "" && !regexp.MustCompile(`:v?[0-9][0-9.]*(-\w+)?$`).MatchString(s.Image) {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		if s.Build.Target != "" && !strings.Contains(dockerfile, " AS "+s.Build.Target+"\n") {
			t.Errorf("%s: the Dockerfile has no stage %s", name, s.Build.Target)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to the world", name, port)
			}
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, ".") {
				read(t, source)
			} else if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: volume %s is not declared", name, source)
			}
		}
		for other, on := range s.DependsOn {
			target, ok := c.Services[other]
			if !ok {
				t.Errorf("%s depends on %s, which does not exist", name, other)
			}
			if len(s.Profiles) == 0 && len(target.Profiles) > 0 {
				t.Errorf("%s depends on %s, which is there only with a profile", name, other)
			}
			if on.Condition == "service_healthy" && len(target.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			}
		}
	}
	for name, s := range c.Services {
		url := s.Environment["POSTRIDER_DATABASE_URL"]
		if strings.Contains(url, "//postgres:") && (len(s.Command) == 0 || s.Command[0] != "migrate") {
			t.Errorf("%s runs as a superuser", name)
		}
		for i, arg := range s.Command {
			if role, ok := strings.CutPrefix(arg, "--grant-"); ok && !strings.Contains(string(read(t, "roles.sql")), "CREATE ROLE "+s.Command[i+1]+" LOGIN") {
				t.Errorf("%s: the %s's role %s is not created", name, role, s.Command[i+1])
			}
		}
	}
	if config := c.Services["postrider"].Environment["POSTRIDER_CONFIG"]; !slices.Contains(c.Services["postrider"].Volumes, "./"+filepath.Base(config)+":"+config+":ro") {
		t.Errorf("POSTRIDER_CONFIG=%s is not mounted", config)
	}
}

func TestSubscriptionsReachServices(t *testing.T) {
	var c compose
	load(t, "compose.yaml", &c)
	var config struct {
		Subscriptions []struct {
			Name     string
			Topics   []string
			Sink     string
			Start    string
			Ordering string
			OnDead   string `yaml:"on_dead"`

			MaxAttempts    int `yaml:"max_attempts"`
			Timeout        string
			BackoffInitial string `yaml:"backoff_initial"`
			BackoffMax     string `yaml:"backoff_max"`
		}
	}
	load(t, "subscriptions.yaml", &config)
	if len(config.Subscriptions) < 2 {
		t.Fatalf("subscriptions: %+v", config.Subscriptions)
	}
	for _, s := range config.Subscriptions {
		host := regexp.MustCompile(`^\w+://([\w-]+):`).FindStringSubmatch(s.Sink)
		if host == nil || c.Services[host[1]].Image+c.Services[host[1]].Build.Target == "" {
			t.Errorf("%s: the sink %s is no service", s.Name, s.Sink)
		}
		if len(s.Topics) == 0 {
			t.Errorf("%s has no topics", s.Name)
		}
	}
}

// TestMonitoring: with the profile, the alerts and the dashboard are where Prometheus and Grafana look for them, and Grafana finds Prometheus.
func TestMonitoring(t *testing.T) {
	var c compose
	load(t, "compose.yaml", &c)
	var alone []string
	for name, s := range c.Services {
		if slices.Equal(s.Profiles, []string{"monitoring"}) {
			alone = append(alone, name)
		}
	}
	slices.Sort(alone)
	if !slices.Equal(alone, []string{"grafana", "prometheus"}) {
		t.Fatalf("with the profile there are %q", alone)
	}
	var scraping struct {
		Global        map[string]string
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string                       `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	load(t, "prometheus/prometheus.yml", &scraping)
	_, port, _ := strings.Cut(c.Services["postrider"].Environment["POSTRIDER_HTTP_ADDR"], ":")
	if job := scraping.ScrapeConfigs[0]; job.JobName != "postrider" || !slices.Equal(job.StaticConfigs[0].Targets, []string{"postrider:" + port}) {
		t.Errorf("it scrapes %+v", job)
	}
	for _, file := range append(scraping.RuleFiles, "prometheus.yml") {
		mounted(t, c.Services["prometheus"].Volumes, "./prometheus/"+file, "/etc/prometheus/"+file)
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, Type, URL string
			IsDefault       bool `yaml:"isDefault"`
		}
	}
	load(t, "grafana/datasource.yaml", &sources)
	if s := sources.Datasources[0]; s.Type != "prometheus" || s.URL != "http://prometheus:9090" || !s.IsDefault {
		t.Errorf("Grafana's source is %+v", s)
	}
	var boards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	load(t, "grafana/dashboards.yaml", &boards)
	volumes := c.Services["grafana"].Volumes
	mounted(t, volumes, "./grafana/datasource.yaml", "/etc/grafana/provisioning/datasources/postrider.yaml")
	mounted(t, volumes, "./grafana/dashboards.yaml", "/etc/grafana/provisioning/dashboards/postrider.yaml")
	mounted(t, volumes, "./grafana/postrider.json", boards.Providers[0].Options.Path+"/postrider.json")
}

// mounted wants a file to be where a service looks for it.
func mounted(t *testing.T, volumes []string, file, at string) {
	t.Helper()
	read(t, file)
	if want := file + ":" + at + ":ro"; !slices.Contains(volumes, want) {
		t.Errorf("no volume %s", want)
	}
}

// TestDockerfile keeps the image's Go in step with go.mod.
func TestDockerfile(t *testing.T) {
	gomod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, "../go.mod"))
	if gomod == nil {
		t.Fatal("go.mod names no version of Go")
	}
	if want := "FROM golang:" + string(gomod[1]) + "-"; !strings.Contains(string(read(t, "../Dockerfile")), want) {
		t.Errorf("the Dockerfile does not start with %s", want)
	}
}

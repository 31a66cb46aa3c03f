package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/config"
)

const unitFile = "systemd/postrider.service"

// unit are the lines of a unit by section and name, in their order.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	values, section := map[string][]string{}, ""
	for line := range strings.Lines(string(read(t, unitFile))) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case !ok:
			t.Fatalf("%s: %q is no setting", unitFile, line)
		default:
			values[section+"."+name] = append(values[section+"."+name], value)
		}
	}
	return values
}

// TestUnitIsConfined: it runs as nobody in particular, who writes nothing, gains nothing, and cannot read where connection strings are.
func TestUnitIsConfined(t *testing.T) {
	u := unit(t)
	for name, want := range map[string]string{"DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
		"SystemCallFilter": "@system-service ~@privileged", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "LoadCredential": "secrets:/etc/postrider/secrets",
		"EnvironmentFile": "/etc/postrider/postrider.env", "Type": "exec", "ExecStart": "/usr/local/bin/postrider run"} {
		if got := strings.Join(u["Service."+name], " "); got != want || u["Service."+name] == nil {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestUnitTellsSettings: those that there are, and the time that a stop takes.
func TestUnitTellsSettings(t *testing.T) {
	u, told := unit(t), map[string]string{}
	for _, line := range u["Service.Environment"] {
		name, value, _ := strings.Cut(line, "=")
		told[name] = value
		t.Setenv(name, strings.ReplaceAll(value, "%d", "/run/credentials/postrider.service"))
		if !slices.ContainsFunc(new(config.Settings).Variables(), func(v config.Variable) bool { return v.Name == name }) {
			t.Errorf("%s is no setting", name)
		}
	}
	t.Setenv("POSTRIDER_DATABASE_URL", "postgres://relay@db.example/shop")
	s, err := config.Load("")
	if err != nil {
		t.Fatal(err)
	}
	stop, err := time.ParseDuration(u["Service.TimeoutStopSec"][0])
	if err != nil || stop < time.Duration(s.DrainTimeout)+10*time.Second {
		t.Errorf("it is killed after %s: %v", stop, err)
	}
	if told["POSTRIDER_CONFIG"] != "/etc/postrider/subscriptions.yaml" || told["POSTRIDER_SECRETS_DIR"] != "%d" {
		t.Errorf("it is told %v", told)
	}
}

// TestSystemdTakesTheUnit: systemd itself finds nothing wrong, and little that the process could do.
func TestSystemdTakesTheUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("NOT TESTED, the unit as systemd sees it: systemd-analyze is not installed")
	}
	if help, err := exec.Command("systemd-analyze", "--help").CombinedOutput(); err != nil || !strings.Contains(string(help), "--offline") {
		t.Skip("NOT TESTED, the unit as systemd sees it: systemd-analyze is older than 250, and looks at no files")
	}
	// It wants the program to be there.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "postrider.service")
	text := strings.ReplaceAll(string(read(t, unitFile)), "/usr/local/bin/postrider", program)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), path) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// Tenths of the exposure level, of 100.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}

package kubernetes

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/postrider/postrider/internal/config"
)

// TestSettingsAreRight: what containers are told is read without a complaint, files of subscriptions as well.
func TestSettingsAreRight(t *testing.T) {
	known := map[string]bool{}
	for _, v := range new(config.Settings).Variables() {
		known[v.Name] = true
	}
	each(t, func(t *testing.T, m *manifests, p podOf) {
		for _, c := range p.containers() {
			if variable(c, "POSTRIDER_DATABASE_URL") == nil {
				continue
			}
			for _, v := range c.Env {
				if strings.HasPrefix(v.Name, "POSTRIDER_") && !known[v.Name] {
					t.Errorf("%s is no setting", v.Name)
				}
			}
			if of := variable(c, "POSTRIDER_DATABASE_URL").ValueFrom; of == nil || of.SecretKeyRef == nil {
				t.Error("the connection string is not in a Secret")
			}
			for name, value := range environment(t, m, p, c, "postgres://relay:relay@db.example/shop") {
				t.Setenv(name, value)
			}
			s, err := config.Load("")
			if err != nil {
				t.Fatal(err)
			}
			specs, err := s.Specs()
			if err != nil {
				t.Fatal(err)
			}
			if notes := s.SecretsNotes(specs); len(notes) > 0 {
				t.Errorf("subscriptions lack %q", notes)
			}
			if s.Config != "" && len(specs) == 0 {
				t.Error("there are no subscriptions")
			}
		}
	})
}

// secretFile is a file that settings or subscriptions refer to.
var secretFile = regexp.MustCompile(`file:(/run/postrider/\w+/[\w-]+)`)

// environment is what a container is told, with its files in a directory of the test, and the database at url.
func environment(t *testing.T, m *manifests, p podOf, c corev1.Container, url string) map[string]string {
	t.Helper()
	root := t.TempDir()
	env, all := map[string]string{}, ""
	for _, v := range c.Env {
		switch {
		case v.Name == "POD_IP":
			env[v.Name] = "127.0.0.1"
		case v.ValueFrom != nil:
			env[v.Name] = url
		default:
			env[v.Name] = strings.ReplaceAll(v.Value, "$(POD_IP)", env["POD_IP"])
		}
		all += env[v.Name] + "\n"
	}
	for _, at := range c.VolumeMounts {
		if err := os.MkdirAll(root+at.MountPath, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, v := range p.pod.Spec.Volumes {
			if v.Name != at.Name || v.ConfigMap == nil {
				continue
			}
			for file, text := range m.config(v.ConfigMap.Name).Data {
				all += text
				write(t, filepath.Join(root, at.MountPath, file), strings.ReplaceAll(text, "file:/run/", "file:"+root+"/run/"))
			}
		}
		for name, value := range env {
			env[name] = strings.ReplaceAll(value, at.MountPath, root+at.MountPath)
		}
	}
	for _, ref := range secretFile.FindAllStringSubmatch(all, -1) {
		// What is mounted nowhere is not there: its directory is missing.
		sum := sha256.Sum256([]byte(ref[1]))
		write(t, root+ref[1], "whsec_"+base64.StdEncoding.EncodeToString(sum[:]))
	}
	return env
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

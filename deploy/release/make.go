package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// make builds everything into the directory.
func (r *release) make() error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, target := range r.targets {
		if err := r.target(target); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	if err := r.chart(); err != nil {
		return fmt.Errorf("the chart: %w", err)
	}
	return r.sums()
}

// number is the version without its v.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

// target makes one archive and its bill of materials.
func (r *release) target(target string) error {
	system, arch, _ := strings.Cut(target, "/")
	name := fmt.Sprintf("postrider_%s_%s_%s", r.number(), system, arch)
	binary, err := r.build(system, arch)
	if err != nil {
		return err
	}
	bill, err := r.bill(binary)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, name+".cdx.json"), bill, 0o644); err != nil {
		return err
	}
	files := []file{{name + "/postrider", 0o755, binary}}
	for _, path := range []string{"CHANGELOG.md", "LICENSE", "README.md", "deploy/systemd/postrider.service"} {
		text, err := os.ReadFile(filepath.Join(r.source, path))
		if err != nil {
			return err
		}
		files = append(files, file{name + "/" + filepath.Base(path), 0o644, text})
	}
	return r.pack(name+".tar.gz", files)
}

// build returns a static binary that says nothing of where it was built.
func (r *release) build(system, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "postrider-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "postrider")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version="+r.number(), "-o", path, "./cmd/postrider")
	cmd.Dir = r.source
	// What the environment has of these would change the binary.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(path)
}

// chart packs the chart, with the version of the release.
func (r *release) chart() error {
	root := filepath.Join(r.source, "deploy", "helm", "postrider")
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if name == "Chart.yaml" {
			text = regexp.MustCompile(`(?m)^version: .*$`).ReplaceAll(text, []byte("version: "+r.number()))
			text = regexp.MustCompile(`(?m)^appVersion: .*$`).ReplaceAll(text, []byte(`appVersion: "`+r.number()+`"`))
		}
		files = append(files, file{"postrider/" + filepath.ToSlash(name), 0o644, text})
		return err
	})
	if err != nil {
		return err
	}
	return r.pack("postrider-"+r.number()+".tgz", files)
}

// sums writes SHA256SUMS, which `sha256sum --check` reads.
func (r *release) sums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), list.Bytes(), 0o644)
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// copySource makes a copy of what Git tracks.
func copySource(t *testing.T) string {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// TestReleasesAreReproducible: made in two places they are the same, to the byte; the binary is static and says its version; the sums are right.
func TestReleasesAreReproducible(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	target := "linux/" + runtime.GOARCH
	var made []map[string]string
	for range 2 {
		r := release{source: copySource(t), out: filepath.Join(t.TempDir(), "dist"), version: "v9.8.7-rc.1", targets: []string{target}}
		if err := errors.Join(r.complete(), r.make()); err != nil {
			t.Fatal(err)
		}
		made = append(made, files(t, r.out))
	}
	name := "postrider_9.8.7-rc.1_linux_" + runtime.GOARCH
	want := []string{"SHA256SUMS", "postrider-9.8.7-rc.1.tgz", name + ".cdx.json", name + ".tar.gz"}
	if got := slices.Sorted(maps.Keys(made[0])); !slices.Equal(got, want) {
		t.Fatalf("made %q, want %q", got, want)
	}
	for _, file := range want {
		if made[0][file] != made[1][file] {
			t.Errorf("%s differs", file)
		}
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(made[0][file])), file); file != "SHA256SUMS" && !strings.Contains(made[0]["SHA256SUMS"], line) {
			t.Errorf("SHA256SUMS lacks %s", line)
		}
	}
	binary := unpack(t, made[0][name+".tar.gz"])[name+"/postrider"]
	checkBinary(t, binary)
	checkBill(t, made[0][name+".cdx.json"], binary)
	chart := unpack(t, made[0]["postrider-9.8.7-rc.1.tgz"])
	if text := chart["postrider/Chart.yaml"]; !strings.Contains(text, "\nversion: 9.8.7-rc.1\n") || !strings.Contains(text, "\nappVersion: \"9.8.7-rc.1\"\n") {
		t.Errorf("the chart is\n%s", text)
	}
	if chart["postrider/templates/deployment.yaml"] == "" || chart["postrider/values.schema.json"] == "" {
		t.Errorf("the chart has %q", slices.Sorted(maps.Keys(chart)))
	}
}

// unpack returns the files of an archive, and wants nothing of who made it in there.
func unpack(t *testing.T, text string) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for list := tar.NewReader(zip); ; {
		h, err := list.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1767225600 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s is of %s, by %q", h.Name, h.ModTime, h.Uname)
		}
		if executable := strings.HasSuffix(h.Name, "/postrider"); executable != (h.Mode&0o111 != 0) {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		content, err := io.ReadAll(list)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(content)
	}
}

func checkBinary(t *testing.T, binary string) {
	t.Helper()
	program, err := elf.NewFile(strings.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("the binary is not static")
		}
	}
	if len(binary) > 60<<20 {
		t.Errorf("the binary has %d MiB", len(binary)>>20)
	}
	if home, err := os.UserHomeDir(); err == nil && strings.Contains(binary, home+"/go/pkg/mod") {
		t.Error("the binary says where it was built")
	}
	if runtime.GOOS != "linux" {
		return
	}
	path := filepath.Join(t.TempDir(), "postrider")
	if err := os.WriteFile(path, []byte(binary), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "postrider 9.8.7-rc.1 (") {
		t.Errorf("it says %s (%v)", out, err)
	}
}

// checkBill wants what CycloneDX requires, references that lead somewhere, and the modules of go.mod.
func checkBill(t *testing.T, text, binary string) {
	t.Helper()
	var b bill
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.SpecVersion != "1.6" || b.Version != 1 || b.Metadata.Timestamp != "2026-01-01T00:00:00Z" {
		t.Errorf("the bill begins with %s", text[:200])
	}
	main := b.Metadata.Component
	if main.Type != "application" || main.Name != "github.com/postrider/postrider" || main.Version != "v9.8.7-rc.1" || main.Hashes[0].Content != fmt.Sprintf("%x", sha256.Sum256([]byte(binary))) {
		t.Errorf("it is about %+v", main)
	}
	refs := map[string]bool{}
	for _, c := range b.Components {
		if c.Type != "library" || c.Name == "" || !regexp.MustCompile(`^(v?\d+\.)`).MatchString(c.Version) || !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") || refs[c.Ref] {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
	}
	for _, ref := range b.Dependencies[0].DependsOn {
		if !refs[ref] {
			t.Errorf("there is no %s", ref)
		}
	}
	gomod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	pgx := regexp.MustCompile(`github.com/jackc/pgx/v5 (v\S+)`).FindSubmatch(gomod)
	if !refs["pkg:golang/github.com/jackc/pgx/v5@"+string(pgx[1])] || !bytes.Contains([]byte(text), []byte(`"name": "std"`)) {
		t.Error("the bill lacks pgx or Go's library")
	}
}

// TestVersionsAreTags: of a clean work tree, unless one is given.
func TestVersionsAreTags(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	found := func() (string, error) {
		r := release{source: dir, targets: []string{"linux/amd64"}}
		err := r.complete()
		return r.version, err
	}
	refused := func(word string) {
		t.Helper()
		if version, err := found(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want an error with %q", version, err, word)
		}
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "One")
	refused("HEAD has no tag")
	git("tag", "v1.2.3")
	if version, err := found(); err != nil || version != "v1.2.3" {
		t.Errorf("%s, %v", version, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "changed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("the work tree differs from the tag v1.2.3")
	for _, c := range []struct {
		r    release
		word string
	}{
		{release{version: "1.2.3"}, "version 1.2.3: must look like v0.1.0"},
		{release{version: "v1.2.3", targets: []string{"linux"}}, `target "linux": must look like linux/amd64`},
	} {
		if err := c.r.complete(); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%v, want %q", err, c.word)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if err := (&release{version: "v1.2.3"}).complete(); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH=yesterday") {
		t.Error(err)
	}
}

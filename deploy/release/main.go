// Command release makes what a release consists of, without network beyond the modules that the build needs:
//
//	make release                                    at a tag such as v0.1.0, of a clean work tree
//	go run ./deploy/release -version v0.1.0-rc.1 -targets linux/amd64 -out dist
//
// For each target there are an archive with the static binary and its bill of materials (CycloneDX), beside them the Helm chart, and SHA256SUMS of all. It is
// reproducible: the same commit, version and toolchain make the same bytes, wherever. Times are those of SOURCE_DATE_EPOCH, by default the commit's.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	r := release{}
	flag.StringVar(&r.source, "source", ".", "the work tree")
	flag.StringVar(&r.out, "out", "dist", "directory for the files, made anew")
	flag.StringVar(&r.version, "version", "", "version, such as v0.1.0; default: the tag of HEAD, whose work tree must be clean")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "operating systems and architectures, separated by commas")
	flag.Parse()
	r.targets = strings.Split(*targets, ",")
	if err := r.complete(); err != nil {
		fail(err)
	}
	if err := r.make(); err != nil {
		fail(err)
	}
	fmt.Printf("%s is in %s\n", r.version, r.out)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "release:", err)
	os.Exit(1)
}

// release is what is made, of what.
type release struct {
	source, out string
	version     string // with its v
	targets     []string
	at          time.Time
}

// semver is a version as Go modules and Helm have it.
var semver = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// complete finds the version and the time where they are not given.
func (r *release) complete() error {
	if r.version == "" {
		tag, err := r.git("describe", "--tags", "--exact-match")
		if err != nil {
			return fmt.Errorf("HEAD has no tag: make one, such as v0.1.0, or give -version (%w)", err)
		}
		if changed, err := r.git("status", "--porcelain"); err != nil || changed != "" {
			return fmt.Errorf("the work tree differs from the tag %s: commit, or give -version\n%s%v", tag, changed, err)
		}
		r.version = tag
	}
	if !semver.MatchString(r.version) {
		return fmt.Errorf("version %s: must look like v0.1.0 or v0.1.0-rc.1", r.version)
	}
	for _, target := range r.targets {
		if !regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`).MatchString(target) {
			return fmt.Errorf("target %q: must look like linux/amd64", target)
		}
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		var err error
		if epoch, err = r.git("log", "-1", "--format=%ct"); err != nil {
			return fmt.Errorf("the time of the commit: %w", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH=%s: must be seconds since 1970", epoch)
	}
	r.at = time.Unix(seconds, 0).UTC()
	return nil
}

func (r *release) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.source
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

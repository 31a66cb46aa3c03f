package postrider

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

const module = "github.com/postrider/postrider"

var builds struct {
	sync.Mutex
	done map[string]string // program by directory
}

// build compiles the relay into dir, once, as make build does it, but for -trimpath: it changes no code, and would have the standard library compiled once more.
func build(ctx context.Context, dir string) (string, error) {
	builds.Lock()
	defer builds.Unlock()
	if program := builds.done[dir]; program != "" {
		return program, nil
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find the sources of the relay (the bench must run inside its module): %w", err)
	}
	program := filepath.Join(dir, "postrider")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "./cmd/postrider")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=") // flags are meant for the module of the bench
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the relay: %w\n%s", err, bytes.TrimSpace(out))
	}
	if builds.done == nil {
		builds.done = map[string]string{}
	}
	builds.done[dir] = program
	return program, nil
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/report"
)

// describe says what the figures depend on, and nothing that tells whose machine it is.
func describe(ctx context.Context, e *env.Env, full bool) (*report.Summary, error) {
	s := &report.Summary{
		Date: time.Now().UTC().Format(time.DateOnly), Full: full, CPUs: runtime.NumCPU(),
		CPU: fromFile("/proc/cpuinfo", "model name"), Kernel: kernel(), Settings: env.Settings,
		Versions: map[string]string{"Go": runtime.Version(), "NATS": server.VERSION},
	}
	var version string
	if err := e.Admin.QueryRow(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1)").Scan(&version); err != nil {
		return s, fmt.Errorf("ask for the version of PostgreSQL: %w", err)
	}
	s.Versions["PostgreSQL"] = version
	modules := map[string]string{"github.com/riverqueue/river": "River", "github.com/ThreeDotsLabs/watermill-sql/v3": "Watermill SQL",
		"github.com/ThreeDotsLabs/watermill": "Watermill", "github.com/jackc/pgx/v5": "pgx"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if name := modules[m.Path]; name != "" {
				s.Versions[name] = m.Version
			}
		}
	}
	return s, nil
}

// fromFile returns what stands behind "key :" in a file, empty if there is no such line.
func fromFile(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kernel is the system's and its release, without what a distributor adds.
func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	release, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
	return runtime.GOOS + " " + release
}

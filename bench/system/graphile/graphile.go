package graphile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

// fillRows is how many jobs one call of add_jobs takes when the backlog is made.
const fillRows = 5000

// settings are what differs from the defaults, by their names in preset.worker.
type settings map[string]any

var (
	byDefault = settings{}
	tuned     = settings{
		"concurrentJobs":        64,
		"maxPoolSize":           25,
		"localQueue":            map[string]any{"size": 500},
		"completeJobBatchDelay": 0,
		"failJobBatchDelay":     0,
	}
)

// Systems are Graphile Worker tuned and as it comes, each with a task that POSTs and with one that does nothing but count.
func Systems() []system.System {
	return []system.System{
		&peer{"graphile-worker tuned", tuned, false},
		&peer{"graphile-worker", byDefault, false},
		&peer{"graphile-worker tuned no-op", tuned, true},
		&peer{"graphile-worker no-op", byDefault, true},
	}
}

type peer struct {
	name     string
	settings settings
	noOp     bool
}

var (
	_ system.System  = (*peer)(nil)
	_ system.Tables  = (*peer)(nil)
	_ system.Checker = (*peer)(nil)
)

func (g *peer) Name() string { return g.name }

func (g *peer) Supports(to system.Destination) bool {
	return to.NATS == "" && to.Bridge.Kind == "" && g.noOp == (to.Webhook == "")
}

func (g *peer) Tables() []string { return []string{"graphile_worker.%"} }

func (g *peer) Check(ctx context.Context) error { return checkNode(ctx) }

// workOrder is what worker.mjs reads.
type workOrder struct {
	Database string   `json:"database"`
	Webhook  string   `json:"webhook"`
	Count    string   `json:"count"`
	Settings settings `json:"settings"`
}

// command runs worker.mjs, with the packages installed.
func (g *peer) command(ctx context.Context, what string, p system.Place) (*exec.Cmd, error) {
	dir, err := installed(ctx, p.Log)
	if err != nil {
		return nil, err
	}
	order, err := json.Marshal(workOrder{Database: p.Database, Webhook: p.To.Webhook, Count: system.CountFile(p), Settings: g.settings})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", filepath.Join(dir, script), what, string(order))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NO_LOG_SUCCESS=1", "NODE_ENV=production")
	return cmd, nil
}

func (g *peer) Install(ctx context.Context, p system.Place) error {
	cmd, err := g.command(ctx, "install", p)
	if err != nil {
		return fmt.Errorf("install Graphile Worker: %w", err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install Graphile Worker: %w\n%s", err, out)
	}
	return nil
}

const (
	addJob = `SELECT graphile_worker.add_job('deliver', $1::text::json)`

	// The rows that add_jobs returns are counted, not sent.
	addJobs = `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
		SELECT ROW('deliver', p::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec FROM unnest($1::text[]) p))`
)

func (g *peer) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	if len(messages) == 1 {
		_, err := tx.Exec(ctx, addJob, string(messages[0].Payload()))
		return err
	}
	payloads := make([]string, len(messages))
	for i, m := range messages {
		payloads[i] = string(m.Payload())
	}
	_, err := tx.Exec(ctx, addJobs, payloads)
	return err
}

func (g *peer) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	payloads := make([]string, 0, fillRows)
	for from := 1; from <= n; from += fillRows {
		payloads = payloads[:0]
		for i := from; i < from+fillRows && i <= n; i++ {
			payloads = append(payloads, string(system.Payload(int64(i))))
		}
		if _, err := conn.Exec(ctx, addJobs, payloads); err != nil {
			return fmt.Errorf("fill Graphile Worker's queue: %w", err)
		}
	}
	return nil
}

func (g *peer) Start(ctx context.Context, p system.Place) (system.Process, error) {
	if !g.Supports(p.To) {
		return nil, errors.New("start " + g.name + ": it does not deliver there")
	}
	cmd, err := g.command(context.WithoutCancel(ctx), "work", p)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", g.name, err)
	}
	process, err := child.Start(ctx, child.Spec{Name: g.name, Cmd: cmd, Log: filepath.Join(p.Dir, "graphile.log"), AwaitReady: true})
	if err != nil {
		return nil, err
	}
	if g.noOp {
		return system.Counting(process, system.CountFile(p)), nil
	}
	return process, nil
}

package env

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/bench/child"
)

// Stream is the stream that takes the subjects "bench.>".
const Stream = "BENCH"

const natsTimeout = 10 * time.Second

func init() { child.Register("nats", func(args []string) { child.Fatal(serveNATS(args[0], args[1])) }) }

// serveNATS runs a server with file storage in dir, and writes its URL to file.
func serveNATS(dir, file string) error {
	ctx, stop := child.Context()
	defer stop()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(natsTimeout) {
		return fmt.Errorf("it takes no connections after %v", natsTimeout)
	}
	if err := os.WriteFile(file, []byte(s.ClientURL()), 0o644); err != nil {
		return err
	}
	child.Ready()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// NATS is the server and a connection of the bench to it.
type NATS struct {
	URL  string
	Conn *nats.Conn
	JS   jetstream.JetStream

	streams string // the directories of all streams' files, as a pattern
	process *child.Process
}

func startNATS(ctx context.Context, dir string) (n *NATS, err error) {
	file := filepath.Join(dir, "nats.url")
	n = &NATS{streams: filepath.Join(dir, "nats", "jetstream", "*", "streams")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start NATS: %w", err), n.Stop())
		}
	}()
	n.process, err = child.Start(ctx, child.Spec{
		Name: "NATS", Log: filepath.Join(dir, "nats.log"), AwaitReady: true,
		Cmd: child.Command(context.WithoutCancel(ctx), "nats", filepath.Join(dir, "nats"), file),
	})
	if err != nil {
		return n, err
	}
	url, err := os.ReadFile(file)
	if err != nil {
		return n, err
	}
	n.URL = strings.TrimSpace(string(url))
	if n.Conn, err = nats.Connect(n.URL, nats.MaxReconnects(-1)); err != nil {
		return n, err
	}
	n.JS, err = jetstream.New(n.Conn)
	return n, err
}

// Stop ends connection and server.
func (n *NATS) Stop() error {
	if n.Conn != nil {
		n.Conn.Close()
	}
	if n.process == nil {
		return nil
	}
	return n.process.Stop()
}

// PID is the server's process id.
func (n *NATS) PID() int { return n.process.PID() }

// Fresh removes all streams, and makes the stream BENCH with the subjects "bench.>".
func (n *NATS) Fresh(ctx context.Context) error {
	if err := n.Clear(ctx); err != nil {
		return err
	}
	return n.AddStream(ctx, Stream, "bench.>")
}

// Limit has the stream BENCH keep the last messages alone, and know their ids for so long.
func (n *NATS) Limit(ctx context.Context, messages int64, known time.Duration) error {
	_, err := n.JS.UpdateStream(ctx, jetstream.StreamConfig{Name: Stream, Subjects: []string{"bench.>"}, Storage: jetstream.FileStorage,
		MaxMsgs: messages, Duplicates: known})
	if err != nil {
		return fmt.Errorf("limit the stream %s: %w", Stream, err)
	}
	return nil
}

// Clear removes all streams.
func (n *NATS) Clear(ctx context.Context) error {
	names := n.JS.StreamNames(ctx)
	for name := range names.Name() {
		if err := errors.Join(n.JS.DeleteStream(ctx, name), n.awaitGone(ctx, name)); err != nil {
			return fmt.Errorf("delete the stream %s: %w", name, err)
		}
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list the streams: %w", err)
	}
	return nil
}

// awaitGone waits until the files of a stream that was deleted are gone. The server answers before, with a dot before the directory's name: a stream
// of the name that is deleted in the meantime, too, stays where it was, and the next one has its messages, or cannot be made.
func (n *NATS) awaitGone(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	for {
		left, err := filepath.Glob(filepath.Join(n.streams, "."+name))
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("its files are still there, %s: %w", left[0], ctx.Err())
		}
	}
}

// AddStream makes a stream with file storage and the server's defaults.
func (n *NATS) AddStream(ctx context.Context, name string, subjects ...string) error {
	_, err := n.JS.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: subjects, Storage: jetstream.FileStorage})
	if err != nil {
		return fmt.Errorf("create the stream %s: %w", name, err)
	}
	return nil
}

// AllowBatches makes the stream BENCH take fast batches.
func (n *NATS) AllowBatches(ctx context.Context) error {
	s, err := n.JS.Stream(ctx, Stream)
	if err == nil {
		config := s.CachedInfo().Config
		config.AllowBatchPublish = true
		_, err = n.JS.UpdateStream(ctx, config)
	}
	if err != nil {
		return fmt.Errorf("allow batches on the stream %s: %w", Stream, err)
	}
	return nil
}

// stateTimeout is what the server gets to answer how much a stream has: it may have its hands full.
const stateTimeout = time.Minute

// Count returns how many messages streams have taken together, whatever they still hold. None means BENCH.
func (n *NATS) Count(ctx context.Context, streams ...string) (int64, error) {
	if len(streams) == 0 {
		streams = []string{Stream}
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	total := int64(0)
	for _, name := range streams {
		s, err := n.JS.Stream(ctx, name) // asks for its state, too
		if err != nil {
			return 0, fmt.Errorf("ask for the state of the stream %s: %w", name, err)
		}
		total += int64(s.CachedInfo().State.LastSeq)
	}
	return total, nil
}

package main

import (
	"io"
	"log/slog"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/secret"
)

// logger writes to standard error: standard output belongs to a command's result, and to the stdout sink.
func (a *app) logger(s *config.Settings, secrets *secret.Store) *slog.Logger {
	to := redacting{a.err, secrets}
	options := &slog.HandlerOptions{Level: slog.Level(s.LogLevel)}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// redacting keeps secrets out of a log, wherever they come from.
type redacting struct {
	to      io.Writer
	secrets *secret.Store
}

// Write implements io.Writer.
func (r redacting) Write(line []byte) (int, error) {
	if _, err := io.WriteString(r.to, r.secrets.Redact(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}

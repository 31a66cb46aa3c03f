package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		if err := inbox.Install(context.Background(), conn); err != nil {
			return err
		}
		_, err = conn.Exec(context.Background(), `CREATE TABLE events (n bigserial PRIMARY KEY, message_id text, topic text, key text, payload json, body bytea, headers jsonb, created_at timestamptz,
			CHECK (topic <> 'never'))`)
		return err
	})
	pgtest.Main(m)
}

// scene is a destination: a database, and a link to it that can be cut.
type scene struct {
	t    *testing.T
	db   *pgtest.DB
	conn *pgx.Conn
	link *linktest.InTest
}

func newScene(t *testing.T) *scene {
	db := pgtest.New(t)
	return &scene{t, db, db.Conn(t), linktest.New(t, hostOf(t, db.URL()))}
}

func hostOf(t *testing.T, raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// url is that of a sink, through the link.
func (s *scene) url(role, query string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?%s", role, s.link.Addr(), s.db.Name, query)
}

// owner is who may do anything.
func (s *scene) owner() string {
	u, err := url.Parse(s.db.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	return u.User.Username()
}

func (s *scene) open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// to opens a sink that is closed at the end of the test.
func (s *scene) to(query, options string) sinks.Sink {
	s.t.Helper()
	sink := s.open(s.t, sinks.Target{URL: s.url(s.owner(), query), Options: json.RawMessage(options)})
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

func (s *scene) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.conn.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](s *scene, sql string, args ...any) T {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), sql, args...)
	if err == nil {
		var v T
		if v, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[T]); err == nil {
			return v
		}
	}
	s.t.Fatalf("%s: %v", sql, err)
	panic("not reached")
}

func (s *scene) received() (list []sinktest.Received) {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), `SELECT message_id, topic, coalesce(key, ''), coalesce(convert_to(payload::text, 'UTF8'), body), payload IS NOT NULL, coalesce(headers, '{}') FROM events ORDER BY n`)
	if err != nil {
		s.t.Fatal(err)
	}
	var r sinktest.Received
	var isJSON bool
	var own map[string]string
	_, err = pgx.ForEachRow(rows, []any{&r.MessageID, &r.Topic, &r.Key, &r.Payload, &isJSON, &own}, func() error {
		r.ContentType, r.Headers = "application/octet-stream", map[string]string{}
		if isJSON {
			r.ContentType = "application/json"
		}
		for name, value := range own {
			r.Headers[strings.ToLower(name)] = value
		}
		r.Payload = append([]byte(nil), r.Payload...)
		list = append(list, r)
		own = nil
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		s := newScene(t)
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				return s.open(t, sinks.Target{URL: s.url(s.owner(), "table=public.events")})
			},
			Received:  s.received,
			NoAttempt: true,
			Down:      s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
		}
	})
}

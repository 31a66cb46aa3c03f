package relay

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
)

// plainURL is what somebody writes who knows nothing of pgx.
func plainURL(b *pgtest.Bouncer, db string) string {
	return strings.Replace(b.URL(db), "&default_query_exec_mode=exec", "", 1)
}

// bouncer starts a PgBouncer before the bench's server, for its role.
func (b *bench) bouncer(mode string, settings map[string]string) *pgtest.Bouncer {
	return pgtest.Bouncers(b.t, b.DB.Server, pgtest.BouncerOptions{PoolMode: mode, User: b.Role, Settings: settings})
}

func (b *bench) through(p *pgtest.Bouncer, follow Follow) func(*Config) {
	return func(c *Config) { c.DatabaseURL, c.Follow = plainURL(p, b.DB.Name), follow }
}

// Through a pooler that hands out connections by the transaction, with an ordinary URL, everything works or says what to do.
func TestTransactionPooler(t *testing.T) {
	b := newBench(t)
	sub := b.subscribe("all", "{>}", "{}", "now")
	for name, settings := range map[string]map[string]string{"lifo": nil, "round robin": {"server_round_robin": "1"}, "short": {"server_lifetime": "1", "query_timeout": "2"}} {
		pooler := b.bouncer("transaction", settings)
		for _, follow := range []Follow{FollowAuto, FollowTimer} {
			t.Run(name+"/"+string(follow), func(t *testing.T) {
				r, g := b.startWatched(b.through(pooler, follow))
				load := b.traffic(3, 0)
				was := sub.count()
				eventually(t, "messages are delivered", func() bool { return sub.count() > was+100 })
				load.stop()
				b.settled(sub)
				eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
				if g.logged("a pooler in transaction mode") == 0 {
					t.Error("the log does not say what was found")
				}
				if n := g.logged("prepared statement"); n > 0 {
					t.Errorf("%d errors of prepared statements", n)
				}
				r.stop()
			})
		}
		for _, follow := range []Follow{FollowStream, FollowListen} {
			if follow == FollowListen {
				b.Exec("SELECT postrider.enable_notify()")
			}
			r := b.start(b.through(pooler, follow))
			<-r.done
			if r.err == nil || !strings.Contains(r.err.Error(), "a pooler in transaction mode") || !strings.Contains(r.err.Error(), "connect to PostgreSQL itself") {
				t.Errorf("follow %s: %v", follow, r.err)
			}
		}
	}
	b.audit(sub, 0)
}

// What two clients compare may hide a pooler; its errors do not.
func TestPoolerThatHides(t *testing.T) {
	b := newBench(t)
	sub := b.subscribe("all", "{>}", "{}", "now")
	pooler := b.bouncer("transaction", nil)
	r, g := b.startWatched(b.through(pooler, FollowTimer), func(c *Config) {
		c.placeOf = func(context.Context, *dbconn.Conn, *pgx.ConnConfig) (dbconn.Place, error) {
			return dbconn.SessionPooler, nil
		}
	})
	sub.arrives(t, b.Publish("a", "", `1`, `2`))
	// Until two clients get each other's connection, nothing is wrong: that takes as long as it takes.
	eventually(t, "the log says what was found", func() bool { return g.logged("a pooler in transaction mode") > 0 })
	eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
	b.Publish("a", "", `3`)
	b.settled(sub)
}

func TestSessionPooler(t *testing.T) {
	b := newBench(t)
	sub := b.subscribe("all", "{>}", "{}", "now")
	b.Exec("SELECT postrider.enable_notify()")
	pooler := b.bouncer("session", nil)
	for _, follow := range []Follow{FollowAuto, FollowTimer, FollowListen} {
		t.Run(string(follow), func(t *testing.T) {
			r, g := b.startWatched(b.through(pooler, follow))
			was := sub.count()
			b.Publish("a", "", `1`, `2`)
			eventually(t, "they are delivered", func() bool { return sub.count() == was+2 })
			eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
			if g.logged("a pooler in session mode") == 0 {
				t.Error("the log does not say what was found")
			}
			if r.now.Load().unprepared {
				t.Error("statements are not prepared")
			}
			r.stop()
		})
	}
}

func TestStatementPooler(t *testing.T) {
	b := newBench(t)
	r := b.start(b.through(b.bouncer("statement", nil), FollowAuto))
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "set pool_mode = transaction") {
		t.Errorf("the relay ends with %v", r.err)
	}
}

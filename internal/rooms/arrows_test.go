package rooms

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postrider/postrider/"

// room is a package, or with /... at its end all below a path, that have no row of their own.
type room struct {
	path     string
	may      string // the rooms that it may import, besides those below itself
	postgres bool   // it may import a driver of PostgreSQL
}

// rooms is the picture of the house; a row without a package says where one is to stand. An arrow is added here on purpose, with the direction in mind, or not at all.
var rooms = []room{
	// Libraries for applications: they know each other and nothing of the relay.
	{path: "outbox", may: "outbox/topic", postgres: true},
	{path: "outbox/topic"},
	{path: "outbox/outboxtest", may: "outbox outbox/topic"},
	{path: "inbox", postgres: true},
	{path: "worker", may: "outbox/topic internal/jsonscan", postgres: true},
	{path: "worker/workertest", may: "worker outbox outbox/outboxtest", postgres: true},

	// The engine, from the leaves inwards out.
	{path: "relay/snapshot", postgres: true}, // pgtype, to be scanned
	{path: "relay/snapshot/snapshottest", may: "relay/snapshot"},
	{path: "relay/expression", may: "outbox/topic sinks"},
	{path: "relay/message", may: "relay/expression relay/snapshot sinks"},
	{path: "relay/subscription", may: "relay/expression sinks internal/strict outbox/topic"},
	{path: "relay/progress", may: "relay/snapshot relay/internal/fifo"},
	{path: "relay/balance"},
	{path: "relay/limits"},
	{path: "relay/states"},
	{path: "relay/watch", may: "outbox/topic"},
	{path: "relay/cron"},
	{path: "relay/metrics", may: "relay/states sinks"},
	{path: "relay/health", may: "internal/dberr"},
	{path: "relay/internal/..."},
	{path: "relay/internal/relaytest", may: "relay/internal/async internal/dbconn internal/pgtest migrations", postgres: true},
	{path: "relay/queue", may: "relay/message relay/snapshot relay/subscription relay/internal/fifo relay/internal/async outbox/topic"},
	{path: "relay/wal", may: "relay/message relay/snapshot relay/internal/async relay/internal/fifo internal/dbconn", postgres: true},
	{path: "relay/wal/waltest", may: "relay/message relay/snapshot", postgres: true},
	{path: "relay/store", may: "relay/states relay/message relay/snapshot relay/subscription relay/progress relay/internal/async internal/dbconn internal/dberr relay/wal outbox/topic", postgres: true},
	{path: "relay/feed", may: "relay/health relay/wal relay/store relay/queue relay/message relay/snapshot relay/subscription relay/internal/async relay/internal/fifo internal/dbconn outbox/topic", postgres: true},
	{path: "relay/delivery", may: "relay/expression relay/watch relay/limits relay/states relay/health relay/progress relay/store relay/queue relay/message relay/snapshot relay/subscription relay/internal/async relay/internal/fifo sinks relay/metrics outbox/topic", postgres: true},
	{path: "relay/maintain", may: "relay/states relay/health relay/metrics relay/store relay/message relay/snapshot relay/subscription relay/internal/async internal/dberr"},
	{path: "relay/schedule", may: "relay/cron relay/store relay/internal/async outbox/topic"},
	{path: "relay", may: "relay/... sinks outbox/topic internal/dbconn internal/dberr internal/schema", postgres: true},

	// Destinations know the contract and what all of them share.
	{path: "sinks", may: "internal/secret internal/strict"},
	{path: "sinks/sinktest", may: "sinks"},
	{path: "sinks/webhook/internal/transport", may: "sinks sinks/webhook/internal/http1 internal/secret internal/guard"},
	{path: "sinks/postgres", may: "sinks sinks/internal/tlsfiles internal/dberr internal/secret internal/guard", postgres: true},
	{path: "sinks/...", may: "sinks sinks/internal/address sinks/internal/amazon sinks/internal/pacing sinks/internal/tlsfiles sinks/internal/wire internal/strict internal/secret internal/guard"},

	// What commands and servers share.
	{path: "internal/strict"},
	{path: "internal/jsonscan"},
	{path: "internal/schema"},
	{path: "internal/human"},
	{path: "internal/measured"},
	{path: "internal/secret"},
	{path: "internal/guard"},
	{path: "internal/dberr", postgres: true},
	{path: "internal/dbconn", may: "internal/dberr", postgres: true},
	{path: "internal/destination", may: "internal/human internal/strict internal/secret relay relay/subscription sinks sinks/amqp sinks/kafka sinks/mqtt sinks/nats sinks/postgres sinks/pubsub sinks/pull sinks/redis sinks/sns sinks/sql sinks/sqs sinks/stdout sinks/webhook", postgres: true},
	{path: "internal/config", may: "internal/destination internal/strict internal/human internal/secret internal/dbconn relay relay/expression relay/schedule relay/subscription outbox/topic sinks sinks/webhook internal/callback internal/api/access"},
	{path: "internal/traces", may: "relay/metrics relay/subscription sinks"},
	{path: "internal/callback", may: "internal/human internal/secret internal/dbconn internal/dberr relay/metrics sinks", postgres: true},
	{path: "internal/api/problem"},
	{path: "internal/api", may: "internal/api/access internal/api/problem internal/admin internal/admin/doctor internal/dbconn internal/destination relay/schedule relay/subscription relay/watch outbox/topic sinks/pull", postgres: true},
	{path: "internal/api/access", may: "internal/api/problem internal/secret internal/strict"},
	{path: "internal/api/hop", may: "internal/api/access internal/api/problem"},
	{path: "internal/api/events", may: "internal/api/access internal/api/hop internal/api/problem internal/admin outbox/topic relay relay/states relay/watch"},
	{path: "internal/api/jobs", may: "internal/api/hop internal/api/problem internal/api/access internal/strict internal/jsonscan relay sinks sinks/pull"},
	{path: "internal/console", may: "internal/api/access internal/admin internal/admin/doctor internal/destination internal/dbconn internal/human relay/states relay/subscription sinks/pull"},
	{path: "internal/admin/...", may: "internal/admin internal/destination internal/human internal/strict internal/config internal/dbconn internal/dberr migrations relay relay/expression relay/schedule relay/states relay/subscription outbox/topic sinks sinks/nats", postgres: true},
	{path: "migrations", may: "internal/dbconn internal/schema", postgres: true},

	// Tests' own.
	{path: "internal/account"},
	{path: "internal/amazontest", may: "sinks/sinktest"},
	{path: "internal/apt"},
	{path: "internal/pgtest", may: "internal/account internal/apt", postgres: true},
	{path: "internal/natstest"},
	{path: "internal/brokertest", may: "internal/apt"},
	{path: "internal/rabbittest", may: "internal/apt internal/brokertest"},
	{path: "internal/hooktest"},
	{path: "internal/linktest"},
	{path: "internal/browsertest", may: "internal/apt"},
	{path: "internal/rooms"},
	{path: "internal/runtests", may: "internal/pgtest"},
	{path: "internal/torture", may: "inbox internal/amazontest internal/brokertest internal/hooktest internal/linktest internal/natstest internal/pgtest internal/rabbittest migrations outbox outbox/topic worker", postgres: true},

	// Programs wire.
	{path: "cmd/postrider", may: "inbox internal/... outbox/topic relay relay/metrics relay/states relay/subscription relay/watch sinks/...", postgres: true},
	{path: "cmd/demo", may: "examples/payments internal/pgtest migrations outbox worker", postgres: true},
	{path: "cmd/torture", may: "internal/torture"},
	{path: "docs"},
	{path: "deploy/..."},
	{path: "examples/..."},
}

// covers reports whether pattern, a path or with /... all below it, has path.
func covers(pattern, path string) bool {
	above, all := strings.CutSuffix(pattern, "/...")
	return path == above || all && strings.HasPrefix(path, above+"/")
}

// roomOf returns the row of a package: its own, or else the one that covers it.
func roomOf(path string) *room {
	for i := range rooms {
		if rooms[i].path == path {
			return &rooms[i]
		}
	}
	for i := range rooms {
		if strings.HasSuffix(rooms[i].path, "/...") && covers(rooms[i].path, path) {
			return &rooms[i]
		}
	}
	return nil
}

func (r *room) allows(from, to string) bool {
	return strings.HasPrefix(to, from+"/") || slices.ContainsFunc(strings.Fields(r.may), func(p string) bool { return covers(p, to) })
}

// knowsPostgres reports whether path is of a driver of PostgreSQL.
func knowsPostgres(path string) bool {
	return strings.HasPrefix(path, "github.com/jackc/") || path == "database/sql" || strings.HasPrefix(path, "database/sql/")
}

// TestArrows: no package imports another one against the picture.
func TestArrows(t *testing.T) {
	imports := importsOf(t)
	if len(imports) < 20 {
		t.Fatalf("only %d packages were found", len(imports))
	}
	for from, list := range imports {
		r := roomOf(from)
		if r == nil {
			t.Errorf("package %s has no row in rooms: give it one, with what it may import", from)
			continue
		}
		for _, to := range list {
			own, isOwn := strings.CutPrefix(to, module)
			switch {
			case isOwn && !r.allows(from, own):
				t.Errorf("%s imports %s: its row in rooms allows %q", from, own, r.may)
			case !isOwn && !r.postgres && knowsPostgres(to):
				t.Errorf("%s imports %s: it may not know PostgreSQL", from, to)
			}
		}
	}
}

// TestRoomsHaveNoCircle: the picture itself has a direction, whatever the code does today. (The compiler refuses circles of packages only.)
func TestRoomsHaveNoCircle(t *testing.T) {
	const entered, left = 1, 2
	state := map[string]int{}
	var walk func(r *room, way []string)
	walk = func(r *room, way []string) {
		way = append(way, r.path)
		switch state[r.path] {
		case entered:
			t.Errorf("a circle: %s", strings.Join(way, " → "))
			return
		case left:
			return
		}
		state[r.path] = entered
		for i := range rooms {
			next := &rooms[i]
			above, all := strings.CutSuffix(next.path, "/...")
			if next != r && slices.ContainsFunc(strings.Fields(r.may), func(p string) bool {
				return covers(p, above) || all && covers(next.path, strings.TrimSuffix(p, "/..."))
			}) {
				walk(next, way)
			}
		}
		state[r.path] = left
	}
	for i := range rooms {
		walk(&rooms[i], nil)
	}
}

// TestRoomsOnce: each path has one row.
func TestRoomsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rooms {
		if seen[r.path] {
			t.Errorf("%s has two rows", r.path)
		}
		seen[r.path] = true
	}
}

// importsOf returns what each package of the module imports, but for its tests; its own names are without the module's.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	for _, line := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`) {
		path, list, _ := strings.Cut(line, " ")
		imports[strings.TrimPrefix(path, module)] = strings.Fields(list)
	}
	return imports
}

// goList asks about all packages of the module, a line each.
func goList(t *testing.T, format string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", format, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

package measured

import "strings"

// Names of systems in bench/results.
const (
	own   = "postrider stream"
	pipe  = "bare pipe"
	equal = "bare pipe, all attributes"
)

const perHundredThousand = "relay, PostgreSQL, destination: CPU seconds per 100,000"

// tables are those of the page.
var tables = []table{
	{"backlog", []string{"to", "system", "messages/s", "of the bare pipe", perHundredThousand, "peak memory of the relay"}, backlog},
	{"backlog-large", []string{"waiting", "system", "messages/s", perHundredThousand, "first delivery after", "`postrider status` at rest, meanwhile, at most"}, large},
	{"https", []string{"", "system", "requests/s", "relay, receiver: CPU seconds per 100,000", "of bare: rate, CPU of the relay, of the receiver"}, https},
	{"live", []string{"", "system", "p50", "p95", "p99", perHundredThousand}, live},
	{"bridges", []string{"backlog into", "messages/s", "of the bare pipe", "of the one with all attributes",
		"CPU seconds per 100,000 of relay, PostgreSQL, destination", "bare pipe", "with all attributes"}, intoBridges},
	{"filter", []string{"a filter, into JetStream", "messages/s", "of those as they are", "CPU seconds per 100,000 of the relay", "PostgreSQL"}, filters},
	{"replica", []string{"a replay", "messages/s", "CPU seconds per 100,000 of the relay", "of the primary", "of the standby"}, replays},
	{"jobs-drain", []string{"100,000 jobs that do nothing", "per second", "CPU of PostgreSQL per 100,000", "WAL per job", "dead tuples"}, jobsDrain},
	{"jobs-effect", []string{"20,000 jobs that write a row each, four connections", "in batches of 1", "10", "100", "CPU of PostgreSQL per 100,000 (1, 10, 100)", "WAL per job"}, jobsEffect},
	{"jobs-live", []string{"1,000 jobs a second, COMMIT to the handler", "p50", "p99", "producers came to"}, jobsLive},
	{"jobs-open-transaction", []string{"2,000 jobs a second, a transaction held open", "done a second at first, at last", "p99 at first, at last", "an empty poll at the end", "CPU of PostgreSQL per 100,000", "dead tuples"}, jobsOpen},
	{"unthrottled", []string{"producers without a limit", "produced/s", "delivered/s", "lag at most", "producers lose"}, unthrottled},
	{"insert", []string{"", "one row", "100 rows a transaction"}, inserts},
}

// backlog leaves out jobs that go nowhere.
func backlog(r *results) (rows [][]string) {
	for _, d := range []struct{ scenario, to string }{{"drain-nats", "JetStream"}, {"drain-webhook", "webhook"}, {"drain-ten", "ten JetStream streams"}} {
		all := r.of(d.scenario)
		if len(all) == 0 {
			continue
		}
		bare := r.named(d.scenario, all, pipe)
		for _, row := range all {
			if !strings.HasSuffix(row.System, " no-op") {
				rows = append(rows, []string{d.to, row.System, whole(row.Rate), percent(100 * row.Rate / bare.Rate), row.cpu(), mebibytes(row.Peak)})
			}
		}
	}
	return rows
}

func large(r *results) (rows [][]string) {
	for _, row := range r.of("backlog-large") {
		status := ""
		if row.figure("status at rest") > 0 {
			status = whole(row.figure("status at rest")) + " ms"
		}
		if row.figure("meanwhile") > 0 { // it may be over before the first one
			status = whole(row.figure("status at rest")) + ", " + whole(row.figure("meanwhile")) + ", " + whole(row.figure("at most")) + " ms"
		}
		rows = append(rows, []string{row.Case, row.System, whole(row.Rate), row.cpu(), three(row.figure("first after")) + " s", status})
	}
	return rows
}

func https(r *results) (rows [][]string) {
	for _, row := range r.of("drain-https") {
		of := "100 %"
		if row.System != "net/http, bare" {
			of = row.share("rate of bare") + ", " + row.share("relay CPU of bare") + ", " + row.share("receiver CPU of bare")
		}
		rows = append(rows, []string{row.Case, row.System, whole(row.Rate), three(row.Relay) + ", " + three(row.Destination), of})
	}
	return rows
}

// live leaves out a client that no program would use.
func live(r *results) (rows [][]string) {
	for _, l := range []struct{ scenario, what string }{{"live-1000", "1,000/s to NATS"}, {"live-3000", "3,000/s to NATS"}, {"live-webhook", "1,000/s to a webhook"}} {
		for _, row := range r.of(l.scenario) {
			if row.System != "bare pipe, raw HTTP" {
				rows = append(rows, []string{l.what, row.System, ms(row.Latency.P50), ms(row.Latency.P95), ms(row.Latency.P99), row.cpu()})
			}
		}
	}
	return rows
}

// bridges are the destinations beside JetStream and webhooks, as the page calls them.
var bridges = []struct{ kind, label string }{{"redis", "Redis"}, {"kafka", "Kafka, faked"}, {"amqp", "RabbitMQ"}, {"mqtt", "MQTT"}, {"postgres", "PostgreSQL"},
	{"sqs", "SQS, faked"}, {"sns", "SNS, faked"}, {"pubsub", "Pub/Sub, faked"}}

func intoBridges(r *results) (rows [][]string) {
	for _, d := range bridges {
		scenario := "drain-" + d.kind
		if all := r.of(scenario); len(all) > 0 {
			ours, least, full := r.named(scenario, all, own), r.named(scenario, all, pipe), r.named(scenario, all, equal)
			rows = append(rows, []string{d.label, whole(ours.Rate), ours.share("of " + pipe), ours.share("of " + equal), ours.cpu(), least.cpu(), full.cpu()})
		}
	}
	return rows
}

func filters(r *results) (rows [][]string) {
	for i, row := range r.of("drain-filter") {
		of := "100 %"
		if i > 0 {
			of = row.share("of those as they are")
		}
		rows = append(rows, []string{row.Case, whole(row.Rate), of, three(row.Relay), three(row.Postgres)})
	}
	return rows
}

func replays(r *results) (rows [][]string) {
	for _, row := range r.of("replica") {
		rows = append(rows, []string{row.Case, whole(row.Rate), three(row.Relay), three(row.Postgres), three(row.Destination)})
	}
	return rows
}

func unthrottled(r *results) (rows [][]string) {
	for _, row := range r.of("unthrottled") {
		rows = append(rows, []string{row.System, whole(row.figure("produced")), whole(row.Rate), three(row.figure("lag at most")) + " s", row.share("producers lose")})
	}
	return rows
}

// inserts puts the two sizes of a transaction beside each other.
func inserts(r *results) (rows [][]string) {
	all := r.of("producer-cost")
	for _, one := range all {
		for _, hundred := range all {
			if one.System == hundred.System && one.Case == "1 row" && hundred.Case == "100 rows" {
				rows = append(rows, []string{one.System, one.share("of plain"), hundred.share("of plain")})
			}
		}
	}
	return rows
}

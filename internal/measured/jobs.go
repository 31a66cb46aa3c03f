package measured

import "strings"

// workers are the systems of the scenarios with jobs, as the page calls them.
var workers = map[string]string{
	"postrider pull":              "Postrider, `pull:`",
	"postrider sql":               "Postrider, `sql:`",
	"plain table, SKIP LOCKED":    "a plain table that deletes with SKIP LOCKED",
	"river tuned no-op":           "River tuned",
	"river tuned transactional":   "River tuned, JobCompleteTx",
	"graphile-worker tuned no-op": "graphile-worker tuned, localQueue",
}

// worker is what the page calls a system.
func (r row) worker() string {
	if name := workers[r.System]; name != "" {
		return name
	}
	return r.System
}

func jobsDrain(r *results) (rows [][]string) {
	for _, row := range r.of("jobs-drain") {
		rows = append(rows, []string{row.worker(), whole(row.Rate), three(row.Postgres) + " s", whole(row.WAL) + " B", whole(float64(row.Dead))})
	}
	return rows
}

// jobsEffect puts the sizes of a batch beside each other.
func jobsEffect(r *results) (rows [][]string) {
	all := r.of("jobs-effect")
	for _, first := range all {
		if first.Case != "batches of 1" {
			continue
		}
		var rates, cpu, wal []string
		for _, size := range []string{"1", "10", "100"} {
			rate := "–"
			for _, row := range all {
				if row.System == first.System && row.Case == "batches of "+size {
					rate, cpu, wal = whole(row.Rate), append(cpu, three(row.Postgres)), append(wal, whole(row.WAL))
				}
			}
			rates = append(rates, rate)
		}
		rows = append(rows, append(append([]string{first.worker()}, rates...), strings.Join(cpu, ", ")+" s", strings.Join(wal, ", ")+" B"))
	}
	return rows
}

func jobsLive(r *results) (rows [][]string) {
	for _, row := range r.of("jobs-live") {
		name := row.worker()
		switch row.Case {
		case "polls":
			name += ", polls every 25 ms"
		case "listens":
			name += ", listens"
		}
		rows = append(rows, []string{name, ms(row.Latency.P50), ms(row.Latency.P99), whole(row.figure("produced")) + "/s"})
	}
	return rows
}

func jobsOpen(r *results) (rows [][]string) {
	for _, row := range r.of("jobs-open-transaction") {
		done, late := "–", "–" // a peer's worker does not take down when
		if row.figure("last delivered") > 0 {
			done = whole(row.figure("first delivered")) + ", " + whole(row.figure("last delivered"))
			late = three(row.figure("first p99")) + ", " + ms(row.figure("last p99"))
		}
		poll := "–"
		if row.figure("empty poll") > 0 {
			poll = ms(row.figure("empty poll"))
		}
		rows = append(rows, []string{row.worker(), done, late, poll, three(row.Postgres) + " s", whole(float64(row.Dead))})
	}
	return rows
}

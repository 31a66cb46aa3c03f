package measured

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// files are results, by scenario.
func files(by map[string]string) fs.FS {
	dir := fstest.MapFS{}
	for scenario, rows := range by {
		dir[scenario+".json"] = &fstest.MapFile{Data: []byte(`{"rows": [` + rows + `]}`)}
	}
	return dir
}

// stubs are the lines of all tables but some.
func stubs(but ...string) (page string) {
	for _, t := range tables {
		if !strings.Contains(" "+strings.Join(but, " ")+" ", " "+t.name+" ") {
			page += "<!-- measured: " + t.name + " -->\n"
		}
	}
	return page
}

const page = `# A page

<!-- measured: replica -->
| a head of old |
|---|
| an old row |
| another |

<!-- by hand: from a book -->
| kept | as it is |
|---|---|
| 1 | 2 |

` + "```\n| no table |\n```\n" + `<!-- measured: https -->
| kept, for there are no results |
|---|
`

// A table that was measured is written anew, one that was not and one by hand stay, and text and code are left alone.
func TestPage(t *testing.T) {
	dir := files(map[string]string{"replica": `{"case": "500,000, from the standby", "rate": 145149.4, "relay_cpu_s_per_100k": 0.234, "destination_cpu_s_per_100k": 123456}`})
	got, err := Page(page+stubs("replica", "https"), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(page, "| a head of old |\n|---|\n| an old row |\n| another |\n",
		`| a replay | messages/s | CPU seconds per 100,000 of the relay | of the primary | of the standby |
|---|---|---|---|---|
| 500,000, from the standby | 145,149 | 0.23 | 0.00 | 123,456 |
`, 1) + stubs("replica", "https")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if again, err := Page(got, dir); again != got || err != nil {
		t.Errorf("written once more it is, %v,\n%s", err, again)
	}
}

func TestPageRefuses(t *testing.T) {
	for _, c := range []struct {
		page, results, want string
	}{
		{"", "", `the page has no line "<!-- measured: backlog -->"`},
		{"<!-- measured: cake -->\n" + stubs(), "", `there is no table "cake" to write, or it is there twice: those that are left are backlog, `},
		{"<!-- measured: https -->\n" + stubs(), "", `there is no table "https" to write, or it is there twice`},
		{stubs() + "\n| a | b |\n", "", `nothing says where the table "| a | b |" is from`},
		{stubs() + "<!-- by hand: yes -->\ntext\n| a | b |\n", "", `nothing says where the table "| a | b |" is from`},
		{stubs(), `{"system": "bare pipe", "error": "it died"}`, "results of drain-redis: there is no figure of bare pipe: it died"},
		{stubs(), `{"system": "postrider stream"}`, "results of drain-redis: there is no row of bare pipe"},
		{stubs(), `{`, "results of drain-redis: invalid character"},
	} {
		dir := files(map[string]string{"drain-redis": c.results})
		if c.results == "" {
			dir = files(nil)
		}
		if got, err := Page(c.page, dir); err == nil || !strings.Contains(err.Error(), c.want) || got != "" {
			t.Errorf("%q: %v, want %s", c.page, err, c.want)
		}
	}
}

// each table, of small results.
func TestTables(t *testing.T) {
	const cpu = `"relay_cpu_s_per_100k": 1, "postgres_cpu_s_per_100k": 2.5, "destination_cpu_s_per_100k": 12.34`
	dir := files(map[string]string{
		"drain-webhook": `{"system": "postrider stream", "rate": 150, "relay_peak_bytes": 72646656, ` + cpu + `}, {"system": "bare pipe", "rate": 100}, {"system": "river no-op", "rate": 9}`,
		"backlog-large": `{"system": "postrider stream", "case": "5 million", "rate": 9, ` + cpu + `, "extra": [{"name": "first after", "value": 0.123}, {"name": "status at rest", "value": 31}, {"name": "meanwhile", "value": 41}, {"name": "at most", "value": 59}]}, {"system": "bare pipe", "case": "5 million", "extra": [{"name": "status at rest", "value": 7}]}`,
		"drain-https":   `{"system": "net/http, bare", "case": "TLS", "rate": 7}, {"system": "postrider stream", "extra": [{"name": "rate of bare", "value": 126.2}, {"name": "relay CPU of bare", "value": 69.3}]}`,
		"live-3000":     `{"system": "x", "latency": {"p50_ms": 0.344, "p95_ms": 10.25, "p99_ms": 1234}, ` + cpu + `}, {"system": "bare pipe, raw HTTP"}`,
		"drain-sqs":     `{"system": "bare pipe"}, {"system": "bare pipe, all attributes"}, {"system": "postrider stream", "rate": 5, "extra": [{"name": "of bare pipe", "value": 57}, {"name": "of bare pipe, all attributes", "value": 90}]}`,
		"drain-filter":  `{"case": "a", "rate": 1}, {"case": "b", "rate": 2, "extra": [{"name": "of those as they are", "value": 94.05}]}`,
		"jobs-drain":    `{"system": "postrider pull", "rate": 107712, "postgres_cpu_s_per_100k": 0.26, "wal_bytes_per_message": 2.9, "dead_tuples": 2}`,
		"jobs-effect":   `{"system": "postrider sql", "case": "batches of 1", "rate": 1, "postgres_cpu_s_per_100k": 55}, {"system": "postrider sql", "case": "batches of 100", "rate": 100, "wal_bytes_per_message": 170}`,
		"jobs-live":     `{"system": "postrider sql", "case": "listens", "extra": [{"name": "produced", "value": 947}]}`,
		"jobs-open-transaction": `{"system": "postrider sql", "postgres_cpu_s_per_100k": 3, "dead_tuples": 1234,
			"extra": [{"name": "first delivered", "value": 1999}, {"name": "last delivered", "value": 2001}, {"name": "first p99", "value": 3}, {"name": "last p99", "value": 4}, {"name": "empty poll", "value": 1.5}]}, {"system": "else"}`,
		"unthrottled":   `{"system": "y", "rate": 2, "extra": [{"name": "produced", "value": 3}, {"name": "lag at most", "value": 0.119}, {"name": "producers lose", "value": 33.2}]}`,
		"producer-cost": `{"system": "plain table", "case": "1 row", "extra": [{"name": "of plain", "value": 100}]}, {"system": "plain table", "case": "100 rows", "extra": [{"name": "of plain", "value": 99}]}`,
	})
	got, err := Page(stubs(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| webhook | postrider stream | 150 | 150 % | 1.00, 2.50, 12.3 | 69 MiB |\n| webhook | bare pipe | 100 | 100 % | 0.00, 0.00, 0.00 | 0 MiB |\n\n",
		"| 5 million | postrider stream | 9 | 1.00, 2.50, 12.3 | 0.12 s | 31, 41, 59 ms |\n| 5 million | bare pipe | 0 | 0.00, 0.00, 0.00 | 0.00 s | 7 ms |\n",
		"| TLS | net/http, bare | 7 | 0.00, 0.00 | 100 % |\n| | postrider stream | 0 | 0.00, 0.00 | 126 %, 69 %, 0 % |\n",
		"| 3,000/s to NATS | x | 0.34 ms | 10.2 ms | 1,234 ms | 1.00, 2.50, 12.3 |\n\n",
		"| SQS, faked | 5 | 57 % | 90 % | 0.00, 0.00, 0.00 | 0.00, 0.00, 0.00 | 0.00, 0.00, 0.00 |\n",
		"| a | 1 | 100 % | 0.00 | 0.00 |\n| b | 2 | 94 % | 0.00 | 0.00 |\n",
		"| Postrider, `pull:` | 107,712 | 0.26 s | 3 B | 2 |\n",
		"| Postrider, `sql:` | 1 | – | 100 | 55.0, 0.00 s | 0, 170 B |\n",
		"| Postrider, `sql:`, listens | 0.00 ms | 0.00 ms | 947/s |\n",
		"| Postrider, `sql:` | 1,999, 2,001 | 3.00, 4.00 ms | 1.50 ms | 3.00 s | 1,234 |\n| else | – | – | – | 0.00 s | 0 |\n",
		"| y | 3 | 2 | 0.12 s | 33 % |\n",
		"| plain table | 100 % | 99 % |\n",
	} {
		if !strings.Contains(strings.ReplaceAll(got, "<!--", "\n<!--")+"\n", want) {
			t.Errorf("there is no\n%s\nin\n%s", want, got)
		}
	}
}

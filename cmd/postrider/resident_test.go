package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// muteEndpoint takes connections and never answers.
func muteEndpoint(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
	})
	return "http://" + l.Addr().String() + "/"
}

var (
	highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
	ofFiles   = regexp.MustCompile(`RssFile:\s+(\d+) kB`)
)

// mostResident returns the bytes that the process ever had resident, without those of its own program, which the kernel keeps as long as nobody
// needs the room; 0 where the kernel does not keep that mark.
func (p *process) mostResident() int64 {
	p.t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	kib := func(mark *regexp.Regexp) int64 {
		found := mark.FindSubmatch(text)
		if found == nil {
			p.t.Fatalf("no mark in %s", text)
		}
		n, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	return (kib(highWater) - kib(ofFiles)) << 10
}

// What a relay has resident stays within three times the setting and 56 MiB for all that is neither messages nor the program itself: with 150 endpoints that do not answer, and messages of 4 MB of which little is stored; and with bodies for which the
// whole setting is too small. A destination that works gets them all meanwhile.
func TestResidentMemory(t *testing.T) {
	t.Parallel()
	const limit = 32 << 20
	for _, c := range []struct {
		name, columns, values string
		n, bytes              int64
		mute                  int
		largest               int64
	}{
		{"mute endpoints", "payload", `to_jsonb(repeat('payload ', 500000))`, 42, 4_000_002, 150, 0},
		{"large bodies", "body", `decode(repeat('00ff', 40000000), 'hex')`, 3, 80_000_000, 0, 80_000_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newDB(t)
			mute := muteEndpoint(t)
			var received atomic.Int64
			good := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body) // what is cut short is not what is counted on below
				received.Add(n)
			}))
			t.Cleanup(good.Close)
			db.Exec(t, "SELECT postrider.set_max_message(268435456)")
			db.Exec(t, fmt.Sprintf(`SELECT postrider.subscribe('mute-' || i, '{large}', '%s') FROM generate_series(1, %d) i`, mute, c.mute))
			p := startPlain(t, "", "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_MEMORY_LIMIT=32MiB", "POSTRIDER_SINK="+good.URL, "POSTRIDER_TOPICS=large")
			admin := db.Pool(t)
			eventually(t, "the relay delivers all subscriptions", func() bool {
				var owned int
				if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL").Scan(&owned); err != nil {
					t.Fatal(err)
				}
				return owned == c.mute+1
			})
			db.Exec(t, fmt.Sprintf(`INSERT INTO postrider.outbox (topic, %s) SELECT 'large', %s FROM generate_series(1, %d)`, c.columns, c.values, c.n))
			eventuallyIn(t, 3*time.Minute, "the destination that works has all", func() bool { return received.Load() == c.n*c.bytes })
			if most, allowed := p.mostResident(), 3*int64(limit)+56<<20+c.largest; most > allowed {
				t.Errorf("%d MiB were resident, allowed are %d", most>>20, allowed>>20)
			} else {
				t.Logf("%d MiB were resident", most>>20)
			}
		})
	}
}

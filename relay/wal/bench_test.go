package wal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal/waltest"
)

// benchPayload is a payload of 200 bytes.
var benchPayload = `{"n": 1, "pad": "` + strings.Repeat("x", 181) + `"}`

// benchInsert is a framed insertion.
func benchInsert(key string) []byte {
	r := &message.Row{XID: 99}
	r.ID, r.CreatedAt, r.Topic, r.Key, r.Payload = 1, time.Unix(1_800_000_000, 0), "bench.t1", key, []byte(benchPayload)
	return waltest.Frame(0, waltest.Insert(r))
}

// One row with a payload of 200 bytes, without and with a key.
func BenchmarkDecode(b *testing.B) {
	for _, key := range []string{"", "customer-42"} {
		b.Run(fmt.Sprintf("key=%t", key != ""), func(b *testing.B) {
			p := newPgoutput(message.NewDecoder("0123abcd"))
			if _, _, err := p.parse(waltest.Relation(), true); err != nil {
				b.Fatal(err)
			}
			insert := benchInsert(key)[25:]
			b.SetBytes(int64(len(insert)))
			b.ReportAllocs()
			for b.Loop() {
				if _, r, err := p.parse(insert, true); err != nil || r == nil {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// What a row costs from the connection's buffer to held transactions and out of them again.
func BenchmarkStream(b *testing.B) {
	for _, rows := range []int{1, 10} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			h := NewBacklog(1 << 30)
			h.Restart()
			a := NewAssembler(message.NewDecoder("source"), h)
			if err := a.Take(waltest.Frame(0, waltest.Relation())); err != nil {
				b.Fatal(err)
			}
			begin, insert, commit := waltest.Frame(0, waltest.Begin(time.Time{})), benchInsert(""), waltest.Frame(0, waltest.Commit())
			all := snapshot.Snapshot{Xmax: 100}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				var err error
				switch n % (rows + 2) {
				case 0:
					err = a.Take(begin)
				case rows + 1:
					err = a.Take(commit)
					if n%200 == 199 {
						h.Take(all, nil)
					}
				default:
					err = a.Take(insert)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*float64(rows+2)/float64(rows), "ns/row")
		})
	}
}

package relay

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// benchPayload is a payload of 200 bytes.
var benchPayload = `{"n": 1, "pad": "` + strings.Repeat("x", 181) + `"}`

// appendValue appends one value of a tuple in binary format, NULL for nil.
func appendValue(b, value []byte) []byte {
	if value == nil {
		return append(b, 'n')
	}
	b = binary.BigEndian.AppendUint32(append(b, 'b'), uint32(len(value)))
	return append(b, value...)
}

func bigEndian(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// insertMessage is an insertion into the relation of seedMessages, as the output plugin sends it.
func insertMessage(id int64, xid uint64, topic, key string) []byte {
	m := append([]byte{msgInsert}, 0, 0, 0x40, 0x16, 'N', 0, 10)
	m = appendValue(m, bigEndian(uint64(id)))
	m = appendValue(m, bigEndian(xid))
	m = appendValue(m, bigEndian(845_000_000_000_000))
	m = appendValue(m, nil)          // deliver_at
	m = appendValue(m, []byte{0, 1}) // segment
	m = appendValue(m, []byte(topic))
	if key == "" {
		m = appendValue(m, nil)
	} else {
		m = appendValue(m, []byte(key))
	}
	m = appendValue(m, []byte("\x01"+benchPayload))
	m = appendValue(m, nil)
	return appendValue(m, nil)
}

// number writes the row's and the transaction's id into an insertion that xlogData wrapped.
func number(data []byte, id int64, xid uint64) {
	binary.BigEndian.PutUint64(data[25+8+5:], uint64(id))
	binary.BigEndian.PutUint64(data[25+8+13+5:], xid)
}

// xlogData wraps an output plugin's message in the stream's.
func xlogData(message []byte) []byte {
	return append(append([]byte{pglogrepl.XLogDataByteID}, make([]byte, 24)...), message...)
}

// streamBench is the reading end of a stream without a connection.
func streamBench(b *testing.B) *reader {
	relation, _ := seedMessages(b)
	h := newHeld(1 << 30)
	h.restart()
	r := &reader{stream: &stream{decoder: message.NewDecoder("source"), held: h, log: slog.New(slog.DiscardHandler)}}
	r.parser = newPgoutput(r.decoder)
	if err := r.copyData(xlogData(relation)); err != nil {
		b.Fatal(err)
	}
	return r
}

// One row with a payload of 200 bytes, without and with a key.
func BenchmarkDecode(b *testing.B) {
	for _, key := range []string{"", "customer-42"} {
		b.Run(fmt.Sprintf("key=%t", key != ""), func(b *testing.B) {
			relation, _ := seedMessages(b)
			p := newPgoutput(message.NewDecoder("0123abcd"))
			if _, _, err := p.parse(relation, true); err != nil {
				b.Fatal(err)
			}
			message := insertMessage(1_234_567, 99, "bench.t1", key)
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, r, err := p.parse(message, true); err != nil || r == nil {
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
			r := streamBench(b)
			begin, commit := xlogData([]byte{msgBegin}), xlogData([]byte{msgCommit})
			insert := xlogData(insertMessage(1, 99, "bench.t1", ""))
			all := snapshot.Snapshot{Xmax: 100}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				var err error
				switch n % (rows + 2) {
				case 0:
					err = r.copyData(begin)
				case rows + 1:
					err = r.copyData(commit)
					if n%200 == 199 {
						r.held.take(all, nil)
					}
				default:
					err = r.copyData(insert)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*float64(rows+2)/float64(rows), "ns/row")
		})
	}
}

// A topic against what a subscription may have for patterns.
func BenchmarkMatch(b *testing.B) {
	for _, patterns := range []string{">", "orders.created", "orders.*", "orders.>", "a.>,b.>,*.c,d.e.f,orders.*"} {
		m, err := topic.NewMatcher(strings.Split(patterns, ","))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(patterns, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !m.Match("orders.created") {
					b.Fatal("no match")
				}
			}
		})
	}
}

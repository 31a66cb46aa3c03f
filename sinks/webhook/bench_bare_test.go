//go:build unix

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// benchPayload has 200 bytes.
var benchPayload = `{"customer": "c-42", "total": 12.50, "note": "` + strings.Repeat("x", 152) + `"}`

// BenchmarkBare sets the sink beside loops that do nothing but post: a tuned client of net/http, with Content-Type alone or with the
// headers that the sink sends, and sockets. The messages have the same size, all are answered by the same receiver in another process.
func BenchmarkBare(b *testing.B) {
	for i, wire := range wires {
		for name, poster := range map[string]func(b *testing.B, url string, lanes int) (lane func() (post func() error)){
			"sink/fixed":       sinkPoster(ConcurrencyFixed),
			"sink/adaptive":    sinkPoster(ConcurrencyAdaptive),
			"net-http/bare":    clientPoster(nil),
			"net-http/as-sent": clientPoster(sentHeaders),
			"raw":              rawPoster,
		} {
			if name == "raw" && wire != "http" {
				continue
			}
			for _, lanes := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/%s/lanes=%d", wire, name, lanes), func(b *testing.B) {
					r := startReceiver(b)
					benchLanes(b, r, lanes, poster(b, r.urls[i], lanes))
				})
			}
		}
	}
}

// sentHeaders are what the sink sends with the messages of the benchmark.
var sentHeaders = map[string]string{"Webhook-Id": "test-1-1767323045678900", "Postrider-Topic": "orders.created", "Postrider-Subscription": "sub",
	"User-Agent": "postrider/dev"}

func sinkPoster(concurrency string) func(*testing.B, string, int) func() func() error {
	return func(b *testing.B, url string, lanes int) func() func() error {
		s := open(b, Config{URL: url + "/hook", Lanes: lanes, Options: Options{Concurrency: concurrency, TLS: skipVerify}})
		ctx, cancel := context.WithCancel(b.Context()) // as the relay's
		b.Cleanup(cancel)
		return func() func() error {
			batch, outcomes := []sinks.Delivery{sinktest.NewDelivery("orders.created", benchPayload)}, make([]error, 1)
			return func() error {
				s.Deliver(ctx, batch, outcomes)
				return outcomes[0]
			}
		}
	}
}

func clientPoster(headers map[string]string) func(b *testing.B, url string, lanes int) func() func() error {
	return func(b *testing.B, url string, lanes int) func() func() error {
		transport := &http.Transport{MaxIdleConns: lanes, MaxIdleConnsPerHost: lanes, DisableCompression: true, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		b.Cleanup(transport.CloseIdleConnections)
		client, body := &http.Client{Transport: transport, Timeout: 15 * time.Second}, []byte(benchPayload)
		return func() func() error {
			return func() error {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/hook", bytes.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/json")
				for name, value := range headers {
					req.Header.Set(name, value)
				}
				res, err := client.Do(req)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				return err
			}
		}
	}
}

// rawPoster writes bytes and reads up to the end of the headers: no client does less.
func rawPoster(b *testing.B, url string, _ int) func() func() error {
	addr := strings.TrimPrefix(url, "http://")
	request := []byte(fmt.Sprintf("POST /hook HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Webhook-Id: test-1-1767323045678900\r\nContent-Length: %d\r\n\r\n%s", addr, len(benchPayload), benchPayload))
	return func() func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return func() error { return err }
		}
		b.Cleanup(func() { conn.Close() })
		answer := make([]byte, 4<<10)
		return func() error {
			if _, err := conn.Write(request); err != nil {
				return err
			}
			n := 0
			for !bytes.HasSuffix(answer[:n], []byte("\r\n\r\n")) {
				more, err := conn.Read(answer[n:])
				if err != nil {
					return err
				}
				n += more
			}
			return nil
		}
	}
}

// benchLanes posts b.N times in all.
func benchLanes(b *testing.B, r *benchReceiver, lanes int, lane func() func() error) {
	var left atomic.Int64
	took := make([]time.Duration, 0, b.N)
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	before, theirs := cpuTime(), r.cpu()
	var all sync.WaitGroup
	for range lanes {
		all.Go(func() {
			post := lane()
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := post(); err != nil {
					b.Error(err)
					return
				}
				if lanes == 1 {
					took = append(took, time.Since(began))
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64((r.cpu()-theirs).Nanoseconds())/float64(b.N), "receiver-cpu-ns/op")
	if len(took) > 0 {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	}
}

// cpuTime is what this process has used up; of itself, no process is refused that.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

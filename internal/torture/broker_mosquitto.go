package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/internal/brokertest"
)

// toMosquitto is the subscription's name, for faults that may repeat what it has delivered.
var toMosquitto = []string{"mqtt"}

var mosquittoKind = &brokerKind{name: "mqtt", about: "a real Mosquitto, which keeps what a subscriber that is away has not had", hits: onMosquitto,
	find: brokertest.FindMosquitto, start: startMosquitto,
	faults: []*Fault{
		{Name: "mqtt-kill", About: "SIGKILL to Mosquitto, then it is started again", Repeats: toMosquitto,
			Inject: hitting(func(ctx context.Context, m *mosquitto, rng *rand.Rand) error {
				m.server.Kill()
				m.ear.leave() // once it has read what was sent to it
				pause(ctx, span(rng, 0, 1500*time.Millisecond))
				return errors.Join(m.server.Restart(), m.ear.join(m.addr()))
			})},
		{Name: "mqtt-away", About: "the subscriber of Mosquitto is away, and Mosquitto is stopped and started again meanwhile", Repeats: toMosquitto,
			Inject: hitting(func(ctx context.Context, m *mosquitto, rng *rand.Rand) error {
				m.ear.leave()
				pause(ctx, span(rng, 0, time.Second))
				err := errors.Join(m.server.Stop(), m.server.Restart())
				pause(ctx, span(rng, 0, time.Second))
				if err == nil {
					err = m.ear.join(m.addr())
				}
				if err == nil {
					err = m.ear.catchUp(context.WithoutCancel(ctx))
				}
				return err
			})},
		{Name: "mqtt-deaf", About: "what Mosquitto says does not arrive: messages without an answer", Repeats: toMosquitto, Inject: deaf("mqtt")},
	}}

// mosquitto is a broker with one subscriber. What the broker has answered it has sent to the subscriber before, or, while that is away, has in
// its file once it is stopped in order. (After SIGKILL the file may lack what came in the last second: that is the broker's affair.)
type mosquitto struct {
	server *brokertest.Server
	ear    *ear
}

func startMosquitto(program string, w *world, b *book) (broker, error) {
	dir := filepath.Join(w.dir, "mosquitto")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	server, err := brokertest.StartMosquitto(program, dir, "persistence true", "persistence_location DIR/", "autosave_interval 1")
	if err != nil {
		return nil, err
	}
	m := &mosquitto{server: server, ear: newEar(b)}
	if err := m.ear.join(m.addr()); err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m, nil
}

func (m *mosquitto) addr() string { return m.server.Addr() }

func (m *mosquitto) sink(addr string) (url, options string) {
	return "mqtt://" + addr + "?prefix=" + heardPrefix, ""
}

func (m *mosquitto) stop() error {
	m.server.Kill()
	m.ear.leave()
	return nil
}

func (m *mosquitto) catchUp(ctx context.Context) error {
	if err := m.ear.catchUp(ctx); err != nil {
		return fmt.Errorf("the subscriber of Mosquitto: %w", err)
	}
	return nil
}

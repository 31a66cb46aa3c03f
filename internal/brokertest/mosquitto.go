package brokertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/postrider/postrider/internal/apt"
)

// FindMosquitto returns the program mosquitto, which is installed where that may be. The error says how to install it.
func FindMosquitto() (string, error) {
	find := func() (string, error) {
		if path, err := exec.LookPath("mosquitto"); err == nil {
			return path, nil
		}
		return exec.LookPath("/usr/sbin/mosquitto")
	}
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("Mosquitto", find, func() error {
			return apt.InstallWithoutService(context.Background(), os.Stderr, "Mosquitto", "mosquitto")
		})
	}
	if err != nil {
		return "", fmt.Errorf("%w: `apt-get install mosquitto` installs it", err)
	}
	return path, nil
}

// StartMosquitto starts a Mosquitto that keeps its files in dir, with lines of configuration besides its own, in which DIR is dir. Whoever calls it calls
// Kill.
func StartMosquitto(program, dir string, lines ...string) (*Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	all := append([]string{"user root", "listener " + port + " 127.0.0.1", "max_queued_messages 0", "max_inflight_messages 0", "log_type error", "log_type warning"}, lines...)
	if !strings.Contains(strings.Join(all, "\n"), "allow_anonymous") {
		all = append(all, "allow_anonymous true")
	}
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(strings.Join(all, "\n")+"\n", "DIR", dir)), 0o644); err != nil {
		return nil, err
	}
	s := &Server{name: "Mosquitto", addr: addr, dir: dir, command: func() *exec.Cmd { return exec.Command(program, "-c", conf) }, answers: func(net.Conn) bool { return true }}
	return s, s.Restart()
}

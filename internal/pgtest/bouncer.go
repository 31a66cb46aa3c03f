package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/apt"
)

// bouncerGrace is what a polite end gets: some versions wait for their clients.
const bouncerGrace = 2 * time.Second

// bouncerPlaces are where packages put PgBouncer, if PATH does not lead there.
var bouncerPlaces = []string{"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer"}

// portTaken finds in PgBouncer's log that somebody was faster in taking the port.
var portTaken = regexp.MustCompile(`in use|nowhere to listen`)

// bouncerScript leaves its pid before it becomes PgBouncer: if this process dies
// in between, either the watchdog finds the pid or PgBouncer finds no directory.
const bouncerScript = `echo $$ > pid && exec "$0" bouncer.ini`

// BouncerOptions says what kind of PgBouncer to start. The zero value is fine.
type BouncerOptions struct {
	// PoolMode is transaction, session or statement. Empty: transaction.
	PoolMode string
	// User is the role as which every client ends up, whatever name it gives. Empty:
	// the superuser.
	User string
	// Settings are added to the section pgbouncer and win over the defaults.
	Settings map[string]string
	// Log receives a line for each slow step and the output of an installation.
	Log io.Writer
}

// Bouncer is a running PgBouncer before a Server.
type Bouncer struct {
	server  *Server
	user    string
	program string
	dir     string
	port    int
	as      account.Account
	dog     *watchdog

	mu      sync.Mutex
	proc    *process
	stopped bool
}

// StartBouncer starts a PgBouncer before all databases of s. It looks for the
// program in PATH and where packages put it; as root on Debian it installs the
// package, without its service, if there is none. It runs as the account that
// servers run as.
//
// ctx bounds the start alone. s has to be up. An error includes the end of the
// log, and nothing is left behind. Whoever calls StartBouncer calls Stop.
func StartBouncer(ctx context.Context, s *Server, o BouncerOptions) (*Bouncer, error) {
	program, err := findBouncer(ctx, writer(o.Log))
	if err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	b := &Bouncer{server: s, user: cmp.Or(o.User, superuser), program: program}
	if err := b.start(ctx, o); err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", errors.Join(err, b.Stop()))
	}
	return b, nil
}

// findBouncer returns the program's path, installing it if need be and possible.
func findBouncer(ctx context.Context, log io.Writer) (string, error) {
	path, err := searchBouncer()
	if err == nil || !apt.CanInstall() {
		return path, err
	}
	return apt.InstallAndFind("PgBouncer", searchBouncer, func() error { return apt.InstallWithoutService(ctx, log, "PgBouncer", "pgbouncer") })
}

func searchBouncer() (string, error) {
	for _, name := range append([]string{"pgbouncer"}, bouncerPlaces...) {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("no pgbouncer found in PATH or as one of %v: install it (Debian: apt-get install pgbouncer; Homebrew: brew install pgbouncer)",
		bouncerPlaces)
}

// start does the work of StartBouncer; what it leaves half done, Stop undoes.
func (b *Bouncer) start(ctx context.Context, o BouncerOptions) (err error) {
	if b.as, err = account.OfServer(); err != nil {
		return err
	}
	if b.dir, err = b.as.MakeDir(); err != nil {
		return err
	}
	if b.dog, err = startWatchdog(b.dir, "pid", "TERM"); err != nil {
		return err
	}
	for range 5 {
		if err := b.configure(o); err != nil {
			return err
		}
		if err = b.launch(ctx); !errors.Is(err, errTransient) {
			return err
		}
	}
	return err
}

// launch starts the program and waits until it leads to the server.
func (b *Bouncer) launch(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	b.proc, err = spawn("PgBouncer", exec.Command("/bin/sh", "-c", bouncerScript, b.program), b.dir, b.as)
	if err != nil {
		return err
	}
	if err = b.proc.waitReady(ctx, b.URL("postgres")); err == nil {
		return nil
	}
	tail := logSince(b.dir, b.proc.logStart, 20)
	if b.proc.poll() && portTaken.MatchString(tail) {
		err = fmt.Errorf("%w (%w)", err, errTransient)
	}
	return fmt.Errorf("%w; its log ends with:\n%s", err, tail)
}

// configure picks a port and writes bouncer.ini.
func (b *Bouncer) configure(o BouncerOptions) (err error) {
	if b.port, err = freePort(); err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addr":     "127.0.0.1",
		"listen_port":     fmt.Sprint(b.port),
		"unix_socket_dir": "",
		"auth_type":       "any", // everyone is b.user
		"pool_mode":       cmp.Or(o.PoolMode, "transaction"),
		"max_client_conn": "500",
		// Seconds until it tries again to reach a server that was down; its own 15 are long for a test.
		"server_login_retry": "1",
	}
	maps.Copy(settings, o.Settings)
	var ini bytes.Buffer
	fmt.Fprintf(&ini, "[databases]\n* = host=127.0.0.1 port=%d user=%s\n[pgbouncer]\n", b.server.Port(), b.user)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, settings[name])
	}
	path := filepath.Join(b.dir, "bouncer.ini")
	return errors.Join(os.WriteFile(path, ini.Bytes(), 0o600), b.as.Chown(path))
}

// Stop ends PgBouncer, and with it all its connections, and removes its directory.
// Further calls do nothing and return nil.
func (b *Bouncer) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil
	}
	b.stopped = true
	var errs []error
	if b.proc != nil {
		errs = append(errs, b.proc.end(context.Background(), bouncerGrace, syscall.SIGTERM, syscall.SIGKILL))
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	if b.dog != nil {
		errs = append(errs, b.dog.dismiss())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop PgBouncer: %w", err)
	}
	return nil
}

// Revive starts PgBouncer again if it has ended by itself, on the same port, and says
// how its log had ended; "" means that it runs. Whoever operates one has a supervisor
// that does the same.
func (b *Bouncer) Revive(ctx context.Context) (log string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || !b.proc.poll() {
		return "", nil
	}
	log = fmt.Sprintf("it ended (by a signal: %v); its log ends with:\n%s", b.proc.killed, b.LogTail(10))
	if err := b.launch(ctx); err != nil {
		return log, fmt.Errorf("start PgBouncer again: %w", err)
	}
	return log, nil
}

// URL returns a connection string for db through PgBouncer. One parameter is for
// pgx alone and not for other clients: it tells it to do without prepared
// statements, which a later transaction may not find again.
func (b *Bouncer) URL(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(b.user),
		Host:     fmt.Sprintf("127.0.0.1:%d", b.port),
		Path:     "/" + db,
		RawQuery: "sslmode=disable&default_query_exec_mode=exec",
	}
	return u.String()
}

// Port returns the TCP port on 127.0.0.1.
func (b *Bouncer) Port() int { return b.port }

// LogTail returns at most n lines from the end of PgBouncer's log.
func (b *Bouncer) LogTail(n int) string { return logSince(b.dir, 0, n) }

package pgtest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Options says what kind of cluster to start. The zero value is fine.
type Options struct {
	// Settings are added to postgresql.conf and win over the defaults.
	Settings map[string]string
	// Log receives a line for each slow step and the output of an installation.
	// The server's own log goes to a file, see [Server.LogFile].
	Log io.Writer
	// BinDir is the directory that holds initdb and postgres. Empty: look for it.
	BinDir string
	// WALLevel is the setting wal_level. Empty: logical.
	WALLevel string
}

// maxSocketPath is what fits into sockaddr_un on every supported system.
const maxSocketPath = 103

// settings returns postgresql.conf: fast, and careless about power failures.
func (o Options) settings(port int, dir string) map[string]string {
	s := map[string]string{
		"listen_addresses":          "127.0.0.1",
		"port":                      fmt.Sprint(port),
		"unix_socket_directories":   dir,
		"wal_level":                 cmp.Or(o.WALLevel, "logical"),
		"max_wal_senders":           "20",
		"max_replication_slots":     "20",
		"max_connections":           "200",
		"max_prepared_transactions": "10",
		"shared_buffers":            "128MB",
		"fsync":                     "off",
		"full_page_writes":          "off",
		"synchronous_commit":        "on",
		"logging_collector":         "off",
		"log_line_prefix":           "%m [%p] %q%u@%d ",
		"log_timezone":              "UTC",
		"timezone":                  "UTC",
		"lc_messages":               "C",
	}
	if len(socketPath(dir, port)) > maxSocketPath {
		s["unix_socket_directories"] = "" // TCP alone is enough
	}
	maps.Copy(s, o.Settings)
	return s
}

// socketPath is the Unix socket that a server on port makes in dir.
func socketPath(dir string, port int) string { return fmt.Sprintf("%s/.s.PGSQL.%d", dir, port) }

// renderSettings writes settings in the syntax of postgresql.conf.
func renderSettings(s map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s)) {
		value := strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(s[name])
		fmt.Fprintf(&b, "%s = '%s'\n", name, value)
	}
	return b.Bytes()
}

// logSince returns at most n lines from the end of the log in dir, without its
// first bytes.
func logSince(dir string, start int64, n int) string {
	text, err := os.ReadFile(logFile(dir))
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return lastLines(text[min(start, int64(len(text))):], n)
}

// lastLines returns at most n lines from the end of text.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

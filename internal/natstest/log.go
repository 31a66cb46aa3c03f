package natstest

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// logger writes a server's log to a file. The library's own one ends the process on a
// fatal error, such as a port that is taken; here the error is kept for whoever starts the server.
type logger struct {
	mu    sync.Mutex
	file  *os.File
	fatal error
}

func newLogger(path string) (*logger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &logger{file: f}, nil
}

func (l *logger) write(level, format string, v []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		fmt.Fprintf(l.file, "%s %s %s\n", time.Now().Format("15:04:05.000000"), level, fmt.Sprintf(format, v...))
	}
}

// err returns the first fatal error.
func (l *logger) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// close ends the log. What a server says after that is lost.
func (l *logger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Close()
	l.file = nil
}

func (l *logger) Noticef(format string, v ...any) { l.write("note ", format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.write("warn ", format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.write("ERROR", format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.write("debug", format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.write("trace", format, v) }

func (l *logger) Fatalf(format string, v ...any) {
	l.write("FATAL", format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == nil {
		l.fatal = fmt.Errorf(format, v...)
	}
}

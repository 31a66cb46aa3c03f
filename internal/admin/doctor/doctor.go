package doctor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// What a check may find.
const (
	StatusOK   = "ok"
	StatusNote = "note" // works, but something could be gained
	StatusWarn = "warn" // works, but trouble is near
	StatusFail = "fail" // does not work
)

// Finding is what one check found; the keys are stable.
type Finding struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
	// Remedy is the exact SQL, setting or command that mends it, line by line.
	Remedy []string `json:"remedy,omitempty"`
}

// Options are what an examination needs to know of the relay whose database it is.
type Options struct {
	DatabaseURL string
	ReplicaURL  string        // of a standby that is read instead; empty: there is none
	Follow      string        // what tells the relay of new messages: auto, stream, listen or timer
	Retention   time.Duration // how long settled messages are to stay
	MaxMessage  int64         // the largest message that the database is to accept, in bytes; 0: not set
	// OldTransaction is how long a transaction may be open. Default: 5 minutes.
	OldTransaction time.Duration
}

// examination is one examination.
type examination struct {
	Options
	db       *dbconn.Conn
	version  int // server_version_num
	role     string
	findings []Finding
}

// Examine runs all checks that make sense; a later one may rest on what an earlier one found.
func Examine(ctx context.Context, o Options) []Finding {
	d := examination{Options: o}
	d.OldTransaction = cmp.Or(o.OldTransaction, 5*time.Minute)
	d.examine(ctx)
	return d.findings
}

func (d *examination) examine(ctx context.Context) {
	if !d.connect(ctx) {
		return
	}
	defer admin.Close(d.db)
	for _, c := range checks {
		if c.gate != nil {
			if !c.gate(d, ctx) {
				return
			}
		} else if err := c.run(d, ctx); err != nil {
			d.report(c.name, StatusWarn, "cannot be checked: "+human.OneLine(err.Error()))
		}
	}
}

func (d *examination) report(name, status, message string, remedy ...string) {
	d.findings = append(d.findings, Finding{name, status, message, remedy})
}

// wantsStream reports whether the relay would stream if it could.
func (d *examination) wantsStream() bool {
	return d.Follow == "auto" || d.Follow == "stream"
}

// streamStatus is how bad it is when streaming does not work: with FOLLOW=auto the timer takes its place.
func (d *examination) streamStatus(otherwise string) string {
	if d.Follow == "stream" {
		return StatusFail
	}
	return otherwise
}

// alterSystem is the remedy for a server setting that takes a restart.
func alterSystem(name, value string) []string {
	return []string{fmt.Sprintf("ALTER SYSTEM SET %s = %s;", name, value), "then restart the server (managed services: change it in the parameter group)"}
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

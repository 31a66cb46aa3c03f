package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// Options are the settings of a subscription that only PostgreSQL has. Table or function may stand in the sink's URL instead.
type Options struct {
	// Table is where messages are inserted, as schema.table. postrider.outbox makes them messages of that database.
	Table string `json:"table,omitempty"`
	// Function is called with each message instead, as schema.function.
	Function string `json:"function,omitempty"`
	// Inbox is the name under which messages are remembered. Default: the table's or function's. Targets of one name have each message once
	// between them.
	Inbox string `json:"inbox,omitempty"`
	// Password is a reference (env:NAME, file:/path) to the password.
	Password string `json:"password,omitempty" secret:"reference"`

	TLS   TLSOptions    `json:"tls,omitzero"`
	Guard guard.Options `json:"guard,omitzero"`
}

// TLSOptions say whom to trust and who we are.
type TLSOptions struct {
	tlsfiles.Options
	// Mode is verify-full (default), verify-ca, require, which trusts whoever answers, or disable.
	Mode string `json:"mode,omitempty"`
}

// config is what a target says.
type config struct {
	hosts          []string // with ports
	user, database string
	name           name
	call           bool // a function
	inbox          string
	timeout        time.Duration
	Options
}

// name is that of a table or a function.
type name struct{ schema, local string }

func (n name) String() string { return n.schema + "." + n.local }

const (
	defaultPort    = "5432"
	defaultTimeout = 30 * time.Second
	maxName        = 63
	maxInbox       = 127
)

// parse reads a target. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (*config, error) {
	c := config{timeout: t.Timeout}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return nil, err
	}
	if err := c.parseURL(t.URL); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return &c, nil
}

// parseURL reads postgres://user@host:port,host:port/database?table=schema.table.
func (c *config) parseURL(raw string) error {
	u, hosts, err := splitHosts(raw)
	if err != nil {
		return fmt.Errorf("the sink's URL cannot be read: %w", err)
	}
	if _, given := u.User.Password(); given {
		return errors.New("the sink's URL holds a password: give a reference to it, such as env:POSTRIDER_SECRET_PASSWORD, as options.password")
	}
	c.user, c.database = u.User.Username(), strings.TrimPrefix(u.Path, "/")
	switch {
	case c.user == "":
		return errors.New("the sink's URL names no user, as in postgres://receiver@host/shop")
	case c.database == "" || strings.Contains(c.database, "/"):
		return errors.New("the sink's URL names no database, as in postgres://receiver@host/shop")
	case u.Fragment != "" || u.Opaque != "":
		return errors.New("the sink's URL must be as in postgres://receiver@host/shop")
	}
	for _, host := range hosts {
		if err := sinks.CheckHost(host); err != nil {
			return fmt.Errorf("the sink's URL %w", err)
		}
		c.hosts = append(c.hosts, net.JoinHostPort(host.Hostname(), cmp.Or(host.Port(), defaultPort)))
	}
	return c.parseQuery(u.RawQuery)
}

// splitHosts parses a URL that may name several hosts, which net/url does not know.
func splitHosts(raw string) (u *url.URL, hosts []*url.URL, err error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	for part := range strings.SplitSeq(rest[begin:end], ",") {
		one, err := url.Parse("postgres://" + part)
		if err != nil {
			return nil, nil, sinks.WithoutURL(raw, err)
		}
		hosts = append(hosts, one)
	}
	if u, err = url.Parse(scheme + "://" + rest[:begin] + hosts[0].Host + rest[end:]); err != nil {
		return nil, nil, sinks.WithoutURL(raw, err)
	}
	return u, hosts, nil
}

func (c *config) parseQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("the sink's URL has a query that cannot be read")
	}
	for key, values := range query {
		to := map[string]*string{"table": &c.Table, "function": &c.Function}[key]
		switch {
		case to == nil:
			return fmt.Errorf("the sink's URL sets %q: it may set table or function; all else stands in the options", key)
		case len(values) > 1 || *to != "":
			return fmt.Errorf("%s is given twice", key)
		}
		*to = values[0]
	}
	return nil
}

func (c *config) check() error {
	if (c.Table == "") == (c.Function == "") {
		return errors.New("it takes either table or function, as schema.name")
	}
	c.call = c.Function != ""
	var err error
	if c.name, err = parseName(c.Table + c.Function); err != nil {
		return err
	}
	if c.inbox = c.Inbox; c.inbox == "" {
		c.inbox = c.name.String()
	}
	if len(c.inbox) > maxInbox || strings.ContainsFunc(c.inbox, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("inbox has %d bytes: it may have up to %d, and no control characters", len(c.inbox), maxInbox)
	}
	if c.Password != "" {
		if _, err := secret.ParseReference("password", c.Password); err != nil {
			return err
		}
	}
	if err := c.TLS.check(); err != nil {
		return err
	}
	_, err = guard.New(c.Guard)
	return err
}

// parseName reads schema.name.
func parseName(text string) (name, error) {
	schema, local, ok := strings.Cut(text, ".")
	for _, part := range []string{schema, local} {
		ok = ok && part != "" && len(part) <= maxName && !strings.ContainsAny(part, ".\"\x00")
	}
	if !ok {
		return name{}, fmt.Errorf("%q: must be schema.name, without quotes, as the database has them, of up to %d bytes each", text, maxName)
	}
	return name{schema, local}, nil
}

func (o *TLSOptions) check() error {
	modes := []string{"", "verify-full", "verify-ca", "require", "disable"}
	switch {
	case !slices.Contains(modes, o.Mode):
		return sinks.Unknown(fmt.Errorf("tls.mode is %q: must be %s", o.Mode, strings.Join(modes[1:], ", ")))
	case o.Mode == "disable" && o.Options != tlsfiles.Options{}:
		return errors.New("tls.mode is disable: then there is nothing to do for the other options of tls")
	}
	return o.Options.Check()
}

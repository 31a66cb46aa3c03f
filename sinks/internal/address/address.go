// Package address reads the URLs of sinks that have several servers: scheme://host:port,host:port/path?name=value.
package address

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/postrider/postrider/sinks"
)

// Address is what a sink's URL says.
type Address struct {
	Scheme  string
	Servers []string // host:port
	Path    string   // as it is written, without the slash before it
	query   url.Values
}

// Parse reads a URL. Ports are the default ones, by scheme, and example is what a URL looks like.
func Parse(raw, example string, ports map[string]string) (*Address, error) {
	form := errors.New("the sink's URL must be as in " + example)
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, form
	}
	if strings.Contains(rest, "@") {
		return nil, errors.New("the sink's URL holds user info: give user and a reference to the password as options")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	a := &Address{Scheme: scheme}
	for part := range strings.SplitSeq(rest[:end], ",") {
		one, err := url.Parse(scheme + "://" + part)
		if err != nil {
			return nil, errors.New("the sink's URL has a host that cannot be read")
		}
		if err := sinks.CheckHost(one); err != nil {
			return nil, fmt.Errorf("the sink's URL %w", err)
		}
		a.Servers = append(a.Servers, net.JoinHostPort(one.Hostname(), cmp.Or(one.Port(), ports[scheme])))
	}
	u, err := url.Parse(scheme + "://host" + rest[end:])
	if err != nil || u.Fragment != "" {
		return nil, form
	}
	a.Path = strings.TrimPrefix(u.EscapedPath(), "/")
	if a.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return nil, errors.New("the sink's URL has a query that cannot be read")
	}
	return a, nil
}

// Option is one that may stand in the URL, too.
type Option struct {
	Name  string
	Value *string
}

// Set gives options what the query says. It may say nothing else, and nothing that is given already.
func (a *Address) Set(options ...Option) error {
	for name, values := range a.query {
		i := slices.IndexFunc(options, func(o Option) bool { return o.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("the sink's URL sets %q: it may set %s; all else stands in the options", name, list(options))
		case len(values) > 1 || *options[i].Value != "":
			return fmt.Errorf("%s is given twice", name)
		}
		*options[i].Value = values[0]
	}
	return nil
}

func list(options []Option) string {
	var names []string
	for _, o := range options {
		names = append(names, o.Name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

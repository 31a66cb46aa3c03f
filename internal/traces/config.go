package traces

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Config is where traces go, and which.
type Config struct {
	endpoint string // with its path, unless it is for gRPC
	grpc     bool
	sampler  sdk.Sampler
	room     int      // spans that may wait or be on their way
	secrets  []string // what no log may show
}

// Read reads the environment. It returns nil if traces are off. The SDK reads most variables by itself; where it would go on without a value
// that it does not understand, Read returns an error.
func Read() (*Config, error) {
	if !wanted() {
		return nil, nil
	}
	if err := check(); err != nil {
		return nil, err
	}
	by, _ := lookup(protocol)
	c := &Config{grpc: by == grpc, sampler: chosenSampler(), room: size(queueSize) + 2*size(batchSize)}
	if err := c.readEndpoint(); err != nil {
		return nil, err
	}
	if err := checkTLS(c.endpoint); err != nil {
		return nil, err
	}
	return c, c.readSecrets()
}

// wanted reports whether traces are on. Where they are off, nothing else is looked at.
func wanted() bool {
	to, _ := lookup(endpoint)
	chosen, _ := lookup(exporter)
	return !strings.EqualFold(strings.TrimSpace(os.Getenv(disabled)), "true") && chosen != "none" && (chosen != "" || to != "")
}

func (c *Config) readEndpoint() (err error) {
	to, from := lookup(endpoint)
	switch {
	case to == "" && c.grpc:
		to = defaultGRPC
	case to == "":
		to = defaultEndpoint
	}
	c.endpoint = to
	if !c.grpc && (from == "" || from == endpoint) { // the one for traces has its path
		c.endpoint, err = url.JoinPath(to, tracesPath)
	}
	return err
}

func (c *Config) readSecrets() error {
	for _, name := range (variable{name: headers, ofTraces: true}).names() {
		if text := os.Getenv(name); text != "" {
			values, err := readHeaders(text)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			c.secrets = append(c.secrets, values...)
		}
	}
	return nil
}

// Secrets are what the collector asks for, so that no log shows it.
func (c *Config) Secrets() []string {
	if c == nil {
		return nil
	}
	return c.secrets
}

// size is a number that was checked, or the default.
func size(name string) int {
	text, _ := lookup(name)
	for _, v := range variables {
		if v.name == name && text == "" {
			text = v.initial
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err) // it was checked
	}
	return n
}

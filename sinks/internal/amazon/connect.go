package amazon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// maxAnswer bounds what a server may answer, in bytes.
const maxAnswer = 4 << 20

// credentialsTimeout bounds looking for credentials in the surroundings.
const credentialsTimeout = 5 * time.Second

// Connection is what a client of the SDK needs: it is one of AWS' HTTPClients, and has credentials.
type Connection struct {
	secrets   *secret.Store
	client    http.Client
	transport *http.Transport
	keys      [3]func() string // access key id, secret access key, session token; nil for what the surroundings have

	metadata bool
	mu       sync.Mutex
	ambient  aws.CredentialsProvider // nil: not looked for yet
}

// Connect prepares connections; it makes none.
func (o *Options) Connect(log *slog.Logger, secrets *secret.Store, meter *sinks.Meter) (*Connection, error) {
	c := &Connection{secrets: secrets.Own(), metadata: o.InstanceMetadata}
	addresses, err := guard.New(o.Guard)
	if err != nil {
		return nil, err
	}
	if err := c.watch(log, o); err != nil {
		return nil, err
	}
	plain := &wire.Dialer{Guard: addresses, Secrets: c.secrets, Meter: meter}
	secured := &wire.Dialer{Guard: addresses, Secure: true, TLS: o.TLS, Secrets: c.secrets, Meter: meter}
	dial := func(d *wire.Dialer) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := d.Dial(ctx, address)
			if err != nil {
				return nil, err // not a *wire.Conn that is nil
			}
			return conn, nil
		}
	}
	c.transport = &http.Transport{
		DialContext: dial(plain), DialTLSContext: dial(secured), MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	c.client = http.Client{Transport: c.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

func (c *Connection) watch(log *slog.Logger, o *Options) error {
	for i, s := range []struct{ setting, ref string }{{"access_key_id", o.AccessKeyID}, {"secret_access_key", o.SecretAccessKey}, {"session_token", o.SessionToken}} {
		switch {
		case s.ref == "":
		case !secret.IsReference(s.ref):
			c.keys[i] = func() string { return s.ref }
		default:
			w, err := secret.Watch(cmp.Or(log, slog.New(slog.DiscardHandler)), c.secrets, s.setting, s.ref, func(t secret.Text) (string, error) { return strings.TrimSpace(t.Reveal()), nil })
			if err != nil {
				return err
			}
			c.keys[i] = func() string { return w.Get(time.Now()) }
		}
	}
	return nil
}

// Do implements the SDK's HTTPClient: it bounds what is read of an answer. It sends a copy of the body: the SDK closes its own once an answer begins,
// and net/http, which may not have noticed yet that all of it is sent, then ends the connection in the middle of the answer.
func (c *Connection) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.ContentLength > 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
		r = r.WithContext(r.Context())
		r.Body, r.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &bounded{answer.Body, maxAnswer}
	return answer, nil
}

type bounded struct {
	io.ReadCloser
	left int
}

var errAnswer = errors.New("the server's answer is longer than it can be")

// Read reads on, up to the bound.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// errCredentials is that there are none.
var errCredentials = errors.New("no credentials")

// Retrieve implements the SDK's CredentialsProvider.
func (c *Connection) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.keys[0] != nil {
		given := aws.Credentials{AccessKeyID: c.keys[0](), SecretAccessKey: c.keys[1](), Source: "options"}
		if c.keys[2] != nil {
			given.SessionToken = c.keys[2]()
		}
		return given, nil
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	found, err := c.surroundings(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	given, err := found.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	c.secrets.Redactor.Learn(given.SecretAccessKey, given.SessionToken)
	return given, nil
}

// surroundings finds what the process has: variables, files, the identity of a container. The machine's metadata service is asked only if that is wanted.
func (c *Connection) surroundings(ctx context.Context) (aws.CredentialsProvider, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ambient != nil {
		return c.ambient, nil
	}
	state := imds.ClientDisabled
	if c.metadata {
		state = imds.ClientDefaultEnableState
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSClientEnableState(state), config.WithRetryMaxAttempts(1), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, err
	}
	if found.Credentials == nil {
		return nil, errors.New("nothing is set")
	}
	c.ambient = found.Credentials
	return c.ambient, nil
}

// Redact is sinks.RedactOutcome's redactor.
func (c *Connection) Redact() *secret.Redactor { return &c.secrets.Redactor }

// Close ends connections that are open.
func (c *Connection) Close() { c.transport.CloseIdleConnections() }

// CheckHere says what of the files and variables that the options name cannot be used on this machine.
func (o *Options) CheckHere(secrets *secret.Store) error {
	c, err := o.Connect(nil, secrets, nil)
	if err != nil {
		return err
	}
	_, err = o.TLS.Config("a.example", c.secrets)
	return err
}

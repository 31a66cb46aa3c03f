package pubsubsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// Bounds of waiting.
const (
	connectTimeout = 5 * time.Second
	tokenTimeout   = 5 * time.Second
	mostBackoff    = 2 * time.Second // between attempts to connect: the relay has its own
)

// scope is what tokens are for.
const scope = "https://www.googleapis.com/auth/pubsub"

// link is the connection to the service, and who we are there.
type link struct {
	*settings
	secrets *secret.Store
	conn    *grpc.ClientConn
	client  *pubsub.TopicAdminClient
	fault   atomic.Pointer[error] // what somebody has to change for a connection to come about
	key     *secret.Watched[oauth2.TokenSource]
	meter   *sinks.Meter // nil: nobody counts

	mu      sync.Mutex
	ambient oauth2.TokenSource // nil: not looked for yet
}

func (c *settings) connect(log *slog.Logger, secrets *secret.Store, meter *sinks.Meter) (*link, error) {
	l := &link{settings: c, secrets: secrets.Own(), meter: meter}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	addresses, err := guard.New(c.Guard)
	if err != nil {
		return nil, err
	}
	if c.Credentials != "" {
		if l.key, err = secret.Watch(log, l.secrets, "credentials", c.Credentials, keyOf); err != nil {
			return nil, err
		}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(l.dialer(addresses)), grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: mostBackoff}, MinConnectTimeout: connectTimeout}),
	}
	if !c.plain {
		options = append(options, grpc.WithTransportCredentials(&transport{link: l}), grpc.WithPerRPCCredentials(l))
	}
	if l.conn, err = grpc.NewClient("passthrough:///"+c.address, options...); err != nil {
		return nil, err
	}
	if l.client, err = pubsub.NewTopicAdminClient(context.Background(), option.WithGRPCConn(l.conn)); err != nil {
		return nil, errors.Join(err, l.conn.Close())
	}
	return l, nil
}

// keyOf reads a service account's key. Tokens are made of it here: nobody is asked for one.
func keyOf(t secret.Text) (oauth2.TokenSource, error) {
	source, err := google.JWTAccessTokenSourceWithScope([]byte(t.Reveal()), scope)
	if err != nil {
		return nil, errors.New("it is not the JSON of a service account's key")
	}
	return oauth2.ReuseTokenSource(nil, source), nil
}

func (l *link) dialer(addresses *guard.Guard) func(context.Context, string) (net.Conn, error) {
	d := &wire.Dialer{Guard: addresses, Secrets: l.secrets}
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := d.Dial(ctx, address)
		l.note(err)
		if err != nil || l.plain {
			l.meter.Connected(err) // with TLS, once that is done
		}
		if err != nil {
			return nil, err // not a *wire.Conn that is nil
		}
		return conn, nil
	}
}

// note keeps what somebody has to change for a connection to come about: of an error that the library wraps, only its text is left.
func (l *link) note(err error) {
	if err == nil {
		l.fault.Store(nil)
		return
	}
	if fault := wire.Fault(err); fault != nil {
		l.fault.Store(&fault)
	}
}

// transport is TLS with the files as they are at each connect.
type transport struct {
	credentials.TransportCredentials
	link *link
}

// ClientHandshake implements credentials.TransportCredentials.
func (t *transport) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(t.link.address)
	if err != nil {
		return nil, nil, err
	}
	config, err := t.link.TLS.Config(host, t.link.secrets)
	if err != nil {
		t.link.fault.Store(&err)
		return nil, nil, err
	}
	secured, info, err := credentials.NewTLS(config).ClientHandshake(ctx, config.ServerName, conn)
	t.link.note(err)
	t.link.meter.Connected(err)
	return secured, info, err
}

// Info implements credentials.TransportCredentials.
func (t *transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (t *transport) Clone() credentials.TransportCredentials { return &transport{link: t.link} }

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (l *link) RequireTransportSecurity() bool { return true }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *link) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	source, err := l.tokens()
	if err != nil {
		return nil, fmt.Errorf("no credentials: %w", err)
	}
	token, err := source.Token()
	if err != nil {
		return nil, fmt.Errorf("no token: %w", err)
	}
	l.secrets.Redactor.Learn(token.AccessToken)
	return map[string]string{"authorization": token.Type() + " " + token.AccessToken}, nil
}

// tokens is where tokens come from: the key that is given, the machine's metadata service if that is wanted, or the file that the process is told of.
func (l *link) tokens() (oauth2.TokenSource, error) {
	if l.key != nil {
		return l.key.Get(time.Now()), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ambient != nil:
	case l.InstanceMetadata:
		l.ambient = google.ComputeTokenSource("", scope)
	case !surroundings():
		return nil, errors.New("give credentials, or GOOGLE_APPLICATION_CREDENTIALS to the process; the identity of a machine or a pod takes instance_metadata")
	default:
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: tokenTimeout})
		found, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, err
		}
		l.ambient = found.TokenSource
	}
	return l.ambient, nil
}

// surroundings says whether there is a file of credentials where programs of Google look for it. Without one, their library would ask the network.
func surroundings() bool {
	if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
		return true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(home, ".config", "gcloud", "application_default_credentials.json"))
	return err == nil
}

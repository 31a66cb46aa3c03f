package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/subscription"
)

// A sidecar that is started from the environment alone has a subscription of the default name. Two of them that lead to different
// destinations would take it from each other without a word: so whoever comes second and has no name of its own is refused. Nothing
// tells for sure that two processes are two sidecars and not one that is being changed. Who lives is the evidence: a sidecar that was
// stopped, and is started with another destination, changes its subscription. One that is replaced while it runs says its name.
const (
	claimCheck = 250 * time.Millisecond
	claimSure  = 1500 * time.Millisecond // a process that was killed a moment ago still has sessions for that long
	claimFresh = 10 * time.Second        // whoever changed the subscription so recently may be about to register
	claimWait  = 3 * time.Second         // for it to register
)

// Declarations are what others see of what this process was started with.
func Declarations(specs []subscription.Spec) map[string]relay.Declaration {
	all := make(map[string]relay.Declaration, len(specs))
	for _, s := range specs {
		list := fields(s.Subscription)
		hash := sha256.New()
		for _, name := range slices.Sorted(maps.Keys(list)) {
			fmt.Fprintf(hash, "%q=%q ", name, list[name].value)
		}
		all[s.Name] = relay.Declaration{Sum: hex.EncodeToString(hash.Sum(nil)[:8]), Sink: destination.Redact(s.Sink)}
	}
	return all
}

// errUnclaimed says that a subscription leads elsewhere than it did when it was claimed.
var errUnclaimed = errors.New("the subscription was changed by somebody else in this moment")

// ApplyClaimed applies specs, after a look whether those of the default name are another sidecar's.
func ApplyClaimed(ctx context.Context, db *dbconn.Conn, specs []subscription.Spec) ([]Change, error) {
	for {
		claimed := make(map[string]string)
		for _, s := range specs {
			if !s.Unnamed {
				continue
			}
			var err error
			if claimed[s.Name], err = claim(ctx, db, s); err != nil {
				return nil, err
			}
		}
		changes, err := Apply(ctx, db, specs, ApplyOptions{claimed: claimed})
		if !errors.Is(err, errUnclaimed) {
			return changes, err
		}
	}
}

// claim refuses a subscription of the default name that leads elsewhere for another relay, which lives. It returns where it leads.
func claim(ctx context.Context, db *dbconn.Conn, own subscription.Spec) (sink string, err error) {
	began := time.Now()
	var seen time.Time // when the rival was seen first
	for {
		sink, fresh, err := leadsTo(ctx, db, own)
		if err != nil || !leadsElsewhere(own, sink) {
			return sink, err
		}
		rival, to, err := findRival(ctx, db, own)
		switch {
		case err != nil:
			return "", err
		case rival == "" && (!fresh || time.Since(began) > claimWait):
			return sink, nil // a deliberate change
		case rival != "" && seen.IsZero():
			seen = time.Now()
		case rival != "" && time.Since(seen) > claimSure:
			return "", errorf(Conflict, "subscription %q leads to %s for relay %s, which runs now, and POSTRIDER_SINK here is %s. "+
				"If this is another sidecar, give its subscription a name of its own with POSTRIDER_SUBSCRIPTION; "+
				"if it is the same one, and is to lead elsewhere, set POSTRIDER_SUBSCRIPTION=%s", own.Name, to, rival, destination.Redact(own.Sink), own.Name)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(claimCheck):
		}
	}
}

// leadsTo returns where the subscription leads at present, and whether somebody changed it a moment ago.
func leadsTo(ctx context.Context, db *dbconn.Conn, own subscription.Spec) (sink string, fresh bool, err error) {
	err = db.QueryRow(ctx, "SELECT sink, updated_at > clock_timestamp() - $2::bigint * interval '1 millisecond' FROM postrider.subscriptions WHERE name = $1",
		own.Name, claimFresh.Milliseconds()).Scan(&sink, &fresh)
	if errors.Is(err, pgx.ErrNoRows) {
		return own.Sink, false, nil
	}
	return sink, fresh, err
}

// leadsElsewhere compares destinations: another password makes no other one.
func leadsElsewhere(s subscription.Spec, sink string) bool {
	return destination.Redact(sink) != destination.Redact(s.Sink)
}

func findRival(ctx context.Context, db *dbconn.Conn, own subscription.Spec) (title, sink string, err error) {
	relays, err := ReadRelays(ctx, db)
	if err != nil {
		return "", "", err
	}
	var now time.Time
	if err := db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return "", "", err
	}
	for _, r := range relays {
		if d, ok := r.Declared[own.Name]; ok && d.Sink != destination.Redact(own.Sink) && r.Lives(now) && r.Connected {
			return fmt.Sprintf("%s (%s)", r.Name, relay.Short(r.Incarnation)), d.Sink, nil
		}
	}
	return "", "", nil
}

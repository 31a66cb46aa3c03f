package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/store"
)

// openPool opens the pool, after finding out what is between it and the server.
func (r *Relay) openPool(ctx context.Context) (*dbconn.Pool, dbconn.Place, error) {
	config, named, err := r.connConfig()
	if err != nil {
		return nil, 0, &fatalError{err}
	}
	place, err := r.findPooler(ctx, config.ConnConfig)
	if err != nil {
		return nil, 0, err
	}
	if r.unprepared {
		dbconn.Unprepared(config.ConnConfig)
	}
	r.hasOwnName = named && place == dbconn.Direct
	config.MaxConns = max(config.MaxConns, poolSize)
	pool, err := dbconn.NewPool(ctx, config)
	if err != nil {
		return nil, 0, fmt.Errorf("connect: %w", err)
	}
	return pool, place, nil
}

// findPooler finds out whether a pooler is in between, and what it does to sessions. One that hides it shows by its errors sooner or later.
func (r *Relay) findPooler(ctx context.Context, config *pgx.ConnConfig) (dbconn.Place, error) {
	conn, err := dbconn.Connect(ctx, config)
	if err != nil {
		return 0, err
	}
	defer dbconn.Close(conn.PgConn())
	place, err := r.config.placeOf(ctx, conn, config)
	if err != nil {
		return 0, err
	}
	if r.health.Foreign.Load() {
		place = dbconn.TransactionPooler
	}
	r.unprepared = place == dbconn.TransactionPooler
	if place != r.place {
		r.place = place
		consequence := "works as a direct connection does"
		if r.unprepared {
			consequence = "no statement is prepared, no session keeps anything"
		}
		r.log.Info("found "+place.String()+" before the database", "consequence", consequence)
	}
	return place, nil
}

// connConfig reads the connection string; named says that sessions tell the incarnation.
func (r *Relay) connConfig() (config *pgxpool.Config, named bool, err error) {
	config, err = dbconn.ParseConfig(r.config.DatabaseURL)
	if err != nil {
		return nil, false, err
	}
	if r.unprepared {
		dbconn.Unprepared(config.ConnConfig)
	}
	return config, r.nameSessions(config.ConnConfig), nil
}

// ownName is what sessions are called unless the connection string says otherwise.
const ownName = "postrider"

// Short is enough of an incarnation to tell relays apart.
func Short(incarnation string) string { return incarnation[:min(8, len(incarnation))] }

// nameSessions puts the incarnation into the sessions' names: so others see that this relay is there although it writes nothing while
// it is alone and idle. A name that the connection string asks for stays as it is.
func (r *Relay) nameSessions(c *pgx.ConnConfig) (named bool) {
	if c.RuntimeParams["application_name"] != ownName {
		return false
	}
	c.RuntimeParams["application_name"] = ownName + " " + Short(r.incarnation)
	return true
}

// connect opens a connection of its own, outside of the pool.
func (r *Relay) connect(ctx context.Context) (*dbconn.Conn, error) {
	config, _, err := r.connConfig()
	if err != nil {
		return nil, err
	}
	return dbconn.Connect(ctx, config.ConnConfig)
}

// chooseFollow resolves FollowAuto and checks that what was asked for by name is to be had.
func (r *Relay) chooseFollow(ctx context.Context, pool *dbconn.Pool, place dbconn.Place) (Follow, error) {
	switch r.config.Follow {
	case FollowTimer:
		return FollowTimer, nil
	case FollowListen:
		if place == dbconn.TransactionPooler {
			return "", &fatalError{fmt.Errorf("follow listen: %s sits between this and PostgreSQL, through which LISTEN does not pass: "+
				"connect to PostgreSQL itself or through a pool in session mode, or set follow to auto or timer", place)}
		}
		return FollowListen, r.checkNotify(ctx, pool)
	}
	why, err := store.Streamable(ctx, pool)
	if err == nil && why == "" && place != dbconn.Direct {
		why, err = r.passesReplication(ctx, place)
	}
	if err != nil || why == "" {
		return FollowStream, err
	}
	if r.config.Follow == FollowStream {
		return "", &fatalError{fmt.Errorf("follow stream: %s", why)}
	}
	r.log.Info("no stream: ticks read the table on a timer", "because", why)
	return FollowTimer, nil
}

// passesReplication says why a replication connection does not pass the pooler, "" if it does.
func (r *Relay) passesReplication(ctx context.Context, place dbconn.Place) (why string, err error) {
	conn, err := dbconn.Replication(ctx, r.config.DatabaseURL, "postrider", nil)
	if err == nil {
		defer dbconn.Close(conn)
		_, err = pglogrepl.IdentifySystem(ctx, conn)
	}
	if err != nil && dberr.Code(err) != "" {
		return fmt.Sprintf("replication connections do not pass %s (%s): connect to PostgreSQL itself, or through PgBouncer 1.23 or newer",
			place, dberr.Cause(err)), nil
	}
	return "", err
}

func (r *Relay) checkNotify(ctx context.Context, pool *dbconn.Pool) error {
	there, err := store.Notifies(ctx, pool)
	if err != nil {
		return err
	}
	if !there {
		return &fatalError{errors.New("follow listen: nobody notifies: run SELECT postrider.enable_notify() as the schema's owner")}
	}
	return nil
}

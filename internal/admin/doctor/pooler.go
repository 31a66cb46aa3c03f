package doctor

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

// checkPooler finds out whether a connection pooler sits in between, and what passes through it. A relay finds out for itself.
func (d *examination) checkPooler(ctx context.Context) error {
	config, err := admin.ConnConfig(d.DatabaseURL)
	if err != nil {
		return err
	}
	place, err := dbconn.PlaceOf(ctx, d.db, config)
	if err != nil {
		return err
	}
	switch place {
	case dbconn.Direct:
		d.report("pooler", StatusOK, "no pooler sits in between")
	case dbconn.SessionPooler:
		d.report("pooler", StatusNote, fmt.Sprintf("%s, or a proxy, sits in between", place),
			"fine for the timer and LISTEN; streaming takes a pooler that passes replication connections (PgBouncer 1.23 and newer)")
	case dbconn.TransactionPooler:
		d.reportTransactionPooler(place)
	}
	return nil
}

// reportTransactionPooler judges a pooler in transaction mode: the timer works through it.
func (d *examination) reportTransactionPooler(place dbconn.Place) {
	message := fmt.Sprintf("%s sits in between: the relay looks at the table on a timer, and prepares no statement", place)
	direct := "for streaming, connect the relay to PostgreSQL itself or through PgBouncer 1.23 or newer"
	switch d.Follow {
	case "timer":
		d.report("pooler", StatusOK, message)
	case "listen":
		d.report("pooler", StatusFail, fmt.Sprintf("%s sits in between, through which LISTEN does not pass", place),
			"connect the relay to PostgreSQL itself or through a pool in session mode, or set POSTRIDER_FOLLOW=timer")
	default:
		d.report("pooler", d.streamStatus(StatusNote), message, direct)
	}
}

package snapshot

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Ident tells a row of the outbox from all others, at any time. Its id alone does not: ids come again when the sequence is set back,
// by TRUNCATE … RESTART IDENTITY, in a copy, or by a crash with asynchronous commits.
type Ident struct {
	ID   int64
	Born int64 // created_at as PostgreSQL has it: microseconds since 2000, exact also where a time.Time of ours is not
}

// Place says when a row was inserted, compared with others.
type Place struct {
	Ident
	XID uint64 // 0: not known
}

// Compare orders by insertion. Ids tell, except where the sequence was set back; times tell, except where the clock was. Where
// they contradict each other, transaction ids say whom to believe.
func (p Place) Compare(o Place) int {
	byID, byTime := cmp.Compare(p.ID, o.ID), cmp.Compare(p.Born, o.Born)
	if byID+byTime == 0 && p.XID != 0 && o.XID != 0 && p.XID != o.XID {
		return cmp.Compare(p.XID, o.XID)
	}
	return cmp.Or(byID, byTime)
}

// Epoch is 2000-01-01 in microseconds since 1970 (src/include/datatype/timestamp.h).
const Epoch = 946684800_000_000

// Timestamp is the value that PostgreSQL has.
func Timestamp(born int64) pgtype.Timestamptz {
	switch born {
	case math.MaxInt64:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	case math.MinInt64:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	const second = 1_000_000
	return pgtype.Timestamptz{Time: time.Unix(born/second+Epoch/second, born%second*1000).UTC(), Valid: true}
}

// TimeText is the value as PostgreSQL reads it.
func TimeText(born int64) string {
	t := Timestamp(born)
	switch year := t.Time.Year(); {
	case t.InfinityModifier != pgtype.Finite:
		return t.InfinityModifier.String()
	case year <= 0:
		return fmt.Sprintf("%04d%s BC", 1-year, t.Time.Format("-01-02 15:04:05.999999Z07:00"))
	}
	return t.Time.Format("2006-01-02 15:04:05.999999Z07:00")
}

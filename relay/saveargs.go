package relay

import (
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/snapshot"
)

// saveArgs turns the items into the arrays that the save statement unnests.
func saveArgs(items []*saveItem, encoding dbconn.Encoding) []any {
	c := cursorArrays{encoding: encoding}
	in := insertArrays{updateArrays: updateArrays{encoding: encoding}}
	up := updateArrays{encoding: encoding}
	var del deleteArrays
	for _, item := range items {
		c.add(item)
		name := item.runner.env.sub.Name
		for m, op := range item.ops {
			switch {
			case op.remove:
				del.add(name, m)
			case op.insert != nil:
				in.add(name, op)
			default:
				up.add(name, op)
			}
		}
	}
	args := c.args()
	args = append(args, in.args()...)
	args = append(args, up.args()...)
	return append(args, del.names, del.ids, del.created)
}

type cursorArrays struct {
	encoding           dbconn.Encoding
	names, bases       []string
	ids, firsts, lasts []string // of done
	epochs             []int64
	targets, troubles  []*string
	afterIDs           []*int64
}

func (c *cursorArrays) add(item *saveItem) {
	c.names = append(c.names, item.runner.env.sub.Name)
	c.epochs = append(c.epochs, item.runner.env.cursor.epoch)
	c.bases = append(c.bases, item.cursor.Base.String())
	ids, first, last := item.cursor.Done.Columns()
	c.ids, c.firsts, c.lasts = append(c.ids, ids), append(c.firsts, first), append(c.lasts, last)
	c.troubles = append(c.troubles, orNull(c.encoding.Storable(item.trouble)))
	if item.cursor.Target == nil {
		c.targets, c.afterIDs = append(c.targets, nil), append(c.afterIDs, nil)
		return
	}
	target, after := item.cursor.Target.String(), item.cursor.AfterID
	c.targets, c.afterIDs = append(c.targets, &target), append(c.afterIDs, &after)
}

func (c *cursorArrays) args() []any {
	return []any{c.names, c.epochs, c.bases, c.targets, c.afterIDs, c.ids, c.firsts, c.lasts, c.troubles}
}

// updateArrays are the columns of a parked row that change.
type updateArrays struct {
	encoding      dbconn.Encoding
	names, states []string
	ids           []int64
	created       []pgtype.Timestamptz
	attempts      []int32
	dues          []*time.Time
	reasons       []*string
	tokens        []*int64
	leases        []*int64 // microseconds
}

func (u *updateArrays) add(name string, op *parkOp) {
	u.names, u.ids, u.states = append(u.names, name), append(u.ids, op.entry.id), append(u.states, op.state)
	u.created = append(u.created, snapshot.Timestamp(op.entry.born))
	u.attempts = append(u.attempts, int32(min(op.attempts, math.MaxInt32)))
	u.reasons = append(u.reasons, orNull(u.encoding.Storable(op.reason)))
	var due *time.Time
	if !op.due.IsZero() {
		due = &op.due
	}
	u.dues = append(u.dues, due)
	var token, lease *int64
	if op.state == stateLeased {
		token, lease = &op.token, new(op.lease.Microseconds())
	}
	u.tokens, u.leases = append(u.tokens, token), append(u.leases, lease)
}

func (u *updateArrays) args() []any {
	return []any{u.names, u.ids, u.created, u.states, u.attempts, u.dues, u.reasons, u.tokens, u.leases}
}

// insertArrays are all columns of a parked row.
type insertArrays struct {
	updateArrays
	xids     []*string
	topics   []string
	keys     []*string
	payloads []*string
	bodies   [][]byte
	headers  []*string
	copies   []int16
}

// How a parked row gets what its message carries.
const (
	copyHere  = iota // from the statement's parameters
	copyThere        // from the outbox
	copyCare         // from the outbox, with care
	copyNone         // not at all
)

func (in *insertArrays) add(name string, op *parkOp) {
	in.updateArrays.add(name, op)
	r := op.insert
	in.topics = append(in.topics, r.Topic)
	var xid *string
	if r.XID != 0 {
		xid = new(strconv.FormatUint(r.XID, 10))
	}
	in.xids = append(in.xids, xid)
	in.keys, in.headers = append(in.keys, orNull(r.Key)), append(in.headers, orNull(string(r.Headers)))
	in.copies = append(in.copies, op.copies())
	if r.Withheld {
		in.payloads, in.bodies = append(in.payloads, nil), append(in.bodies, nil)
		return
	}
	if r.JSON {
		text := string(r.Payload)
		in.payloads, in.bodies = append(in.payloads, &text), append(in.bodies, nil)
		return
	}
	body := r.Payload
	if body == nil {
		body = []byte{}
	}
	in.payloads, in.bodies = append(in.payloads, nil), append(in.bodies, body)
}

func (in *insertArrays) args() []any {
	return append(in.updateArrays.args(), in.xids, in.topics, in.keys, in.payloads, in.bodies, in.headers, in.copies)
}

func (o *parkOp) copies() int16 {
	switch {
	case !o.insert.Withheld:
		return copyHere
	case o.bare:
		return copyNone
	case o.careful:
		return copyCare
	}
	return copyThere
}

type deleteArrays struct {
	names   []string
	ids     []int64
	created []pgtype.Timestamptz
}

func (d *deleteArrays) add(name string, m snapshot.Ident) {
	d.names, d.ids, d.created = append(d.names, name), append(d.ids, m.ID), append(d.created, snapshot.Timestamp(m.Born))
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

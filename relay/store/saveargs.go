package store

import (
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
)

// Progress is what is saved of one part.
type Progress struct {
	Part     subscription.Part
	Epoch    int64 // the fence
	Position snapshot.Position
	Trouble  string // why deliveries stand still; "" if they do not
	Destination
	Changes  []Change
	Results  []Result
	Attempts []Attempt
}

// Destination is what is known of whether a destination is down.
type Destination int16

// What is known; the statement knows these numbers.
const (
	DestinationUnknown Destination = iota // as it was
	DestinationDown
	DestinationWorks
)

func number(d Destination) string { return strconv.Itoa(int(d)) }

// Change is one of a parked row.
type Change struct {
	Message  snapshot.Ident
	Remove   bool // the row goes; nothing else counts
	State    string
	Attempts int
	Due      time.Time // zero: none
	Reason   string    // "": as it was
	Token    int64     // of a leased one
	Lease    time.Duration
	Worker   string       // of one that the sink has leased by itself, or had: the token then tells that it may be changed
	Progress []byte       // of a leased one, as JSON: how far its worker has come; nil: as it was, of the same hand-out
	Insert   *message.Row // the message, for a new row
	Copy     Copy         // for a new row
}

// Copy is how a parked row gets what its message carries.
type Copy int16

// How it gets it; the statement knows these numbers.
const (
	CopyHere  Copy = iota // from the statement's parameters
	CopyThere             // from the outbox
	CopyCare              // from the outbox, with care
	CopyNone              // not at all
)

// saveArgs turns progress into the arrays that a save statement unnests, by name: the one with records if there are any.
func saveArgs(incarnation string, list []Progress, encoding dbconn.Encoding) (args map[string]any, records bool) {
	c := cursorArrays{encoding: encoding}
	in := insertArrays{updateArrays: updateArrays{encoding: encoding}}
	up := updateArrays{encoding: encoding}
	var del deleteArrays
	rec := recordArrays{encoding: encoding}
	for _, p := range list {
		c.add(p)
		rec.add(p)
		for _, change := range p.Changes {
			switch {
			case change.Remove:
				del.add(p.Part, change.Message)
			case change.Insert != nil:
				in.add(p.Part, change)
			default:
				up.add(p.Part, change)
			}
		}
	}
	args = map[string]any{"me": incarnation}
	c.bind(args)
	in.bind(args)
	up.bind(args, "up_")
	args["up_mine"] = up.mine
	del.bind(args, "del_")
	if rec.none() {
		return args, false
	}
	rec.bind(args)
	return args, true
}

// partArrays say whose row each is.
type partArrays struct {
	names           []string
	shards, classes []int16
}

func (a *partArrays) add(p subscription.Part) {
	a.names, a.shards, a.classes = append(a.names, p.Subscription), append(a.shards, p.Shard), append(a.classes, p.Class)
}

func (a *partArrays) bind(args map[string]any, prefix string) {
	args[prefix+"names"], args[prefix+"shards"], args[prefix+"classes"] = a.names, a.shards, a.classes
}

type cursorArrays struct {
	partArrays
	encoding           dbconn.Encoding
	bases              []string
	ids, firsts, lasts []string // of done
	epochs             []int64
	targets, troubles  []*string
	afterIDs           []*int64
	destinations       []int16
}

func (c *cursorArrays) add(p Progress) {
	c.partArrays.add(p.Part)
	c.epochs = append(c.epochs, p.Epoch)
	c.bases = append(c.bases, p.Position.Base.String())
	ids, first, last := p.Position.Done.Columns()
	c.ids, c.firsts, c.lasts = append(c.ids, ids), append(c.firsts, first), append(c.lasts, last)
	c.troubles, c.destinations = append(c.troubles, orNull(c.encoding.Storable(p.Trouble))), append(c.destinations, int16(p.Destination))
	if p.Position.Target == nil {
		c.targets, c.afterIDs = append(c.targets, nil), append(c.afterIDs, nil)
		return
	}
	target, after := p.Position.Target.String(), p.Position.AfterID
	c.targets, c.afterIDs = append(c.targets, &target), append(c.afterIDs, &after)
}

func (c *cursorArrays) bind(args map[string]any) {
	c.partArrays.bind(args, "")
	args["epochs"], args["bases"], args["targets"], args["after_ids"] = c.epochs, c.bases, c.targets, c.afterIDs
	args["done_ids"], args["done_first"], args["done_last"], args["troubles"] = c.ids, c.firsts, c.lasts, c.troubles
	args["destinations"] = c.destinations
}

// updateArrays are the columns of a parked row that change.
type updateArrays struct {
	deleteArrays
	encoding dbconn.Encoding
	states   []string
	attempts []int32
	dues     []*time.Time
	reasons  []*string
	tokens   []*int64
	leases   []*int64 // microseconds
	workers  []*string
	progress []*string
	mine     []*int64 // the token of a lease that may be changed
}

func (u *updateArrays) add(p subscription.Part, c Change) {
	u.deleteArrays.add(p, c.Message)
	u.states = append(u.states, c.State)
	u.attempts = append(u.attempts, int32(min(c.Attempts, math.MaxInt32)))
	u.reasons = append(u.reasons, orNull(u.encoding.Storable(c.Reason)))
	var due *time.Time
	if !c.Due.IsZero() {
		due = &c.Due
	}
	u.dues = append(u.dues, due)
	var token, lease, mine *int64
	var worker, progress *string
	if c.State == states.Leased {
		progress = orNull(u.encoding.JSON(c.Progress))
		token, lease, worker = &c.Token, new(c.Lease.Microseconds()), orNull(u.encoding.Storable(c.Worker))
	}
	if c.Worker != "" {
		mine = &c.Token
	}
	u.tokens, u.leases, u.mine = append(u.tokens, token), append(u.leases, lease), append(u.mine, mine)
	u.workers, u.progress = append(u.workers, worker), append(u.progress, progress)
}

func (u *updateArrays) bind(args map[string]any, prefix string) {
	u.deleteArrays.bind(args, prefix)
	args[prefix+"states"], args[prefix+"attempts"], args[prefix+"dues"] = u.states, u.attempts, u.dues
	args[prefix+"reasons"], args[prefix+"tokens"], args[prefix+"leases"] = u.reasons, u.tokens, u.leases
	args[prefix+"workers"], args[prefix+"progress"] = u.workers, u.progress
}

// insertArrays are all columns of a parked row.
type insertArrays struct {
	updateArrays
	copies []int16
	rows   []*message.Row
}

func (in *insertArrays) add(p subscription.Part, c Change) {
	in.updateArrays.add(p, c)
	in.copies, in.rows = append(in.copies, int16(c.Copy)), append(in.rows, c.Insert)
}

func (in *insertArrays) bind(args map[string]any) {
	in.updateArrays.bind(args, "in_")
	args["in_copies"] = in.copies
	for i := range copies {
		args["in_"+copies[i].name] = copies[i].values(in.rows)
	}
}

// deleteArrays name parked rows.
type deleteArrays struct {
	partArrays
	ids     []int64
	created []pgtype.Timestamptz
}

func (d *deleteArrays) add(p subscription.Part, m snapshot.Ident) {
	d.partArrays.add(p)
	d.ids, d.created = append(d.ids, m.ID), append(d.created, snapshot.Timestamp(m.Born))
}

func (d *deleteArrays) bind(args map[string]any, prefix string) {
	d.partArrays.bind(args, prefix)
	args[prefix+"ids"], args[prefix+"created"] = d.ids, d.created
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

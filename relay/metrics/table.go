package metrics

import (
	"slices"
	"time"
)

// namespace is what all names begin with.
const namespace = "postrider"

// kind is a metric's type, as Prometheus calls it.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// Who tells a metric.
const (
	byAll       = "each relay"
	byOwner     = "the owner"
	byOne       = "the owner, or the eldest relay"
	byOneLooked = "the owner, or the eldest relay (a look)"
	byEldest    = "the eldest relay (a look)"
	byAPI       = "each relay with `POSTRIDER_API_ADDR`"
	byHub       = "the owner, if it has `POSTRIDER_API_ADDR`"
	byCallbacks = "each relay with `POSTRIDER_CALLBACK_ADDR`"
	byReplica   = "each relay with `POSTRIDER_REPLICA_URL`"
	byTraces    = "each relay that sends traces"
	bySinks     = "each relay, of kinds that it has delivered to"
)

// definition is one metric.
type definition struct {
	name   string // without the namespace
	kind   kind
	labels []string
	by     string // who tells it
	help   string

	buckets []float64                   // of a histogram
	read    func(now *Now, put putting) // what is so now; nil: it is counted when it happens
}

// putting takes a value, with those of the labels.
type putting func(value float64, labels ...string)

// ofKind are the labels of what is told of kinds of destinations.
var ofKind = []string{"kind"}

// ofSubscription are the labels of what is told of each subscription.
func ofSubscription(further ...string) []string { return append([]string{"subscription"}, further...) }

// elsewhere says whether others of this process tell it, with what CounterVec and Desc make.
func (d *definition) elsewhere() bool {
	return slices.Contains([]string{byAPI, byHub, byCallbacks, byTraces, bySinks}, d.by)
}

// The list of all metrics.
var table = slices.Concat(aboutRelays, aboutSubscriptions, aboutDatabase, aboutProcess)

// latencies are from half a millisecond to a minute and a half.
var latencies = []float64{0.0005, 0.0015, 0.0045, 0.0135, 0.0405, 0.1215, 0.3645, 1.0935, 3.2805, 9.8415, 29.5245, 88.5735}

var aboutRelays = []definition{
	{name: "ready", kind: gauge, by: byAll, help: "1 while deliveries advance or wait only for their destinations, as /readyz says; else 0.",
		read: func(now *Now, put putting) { put(bit(now.Ready)) }},
	{name: "relay_info", kind: gauge, labels: []string{"relay", "version"}, by: byAll, help: "1, with the name of the relay and the version of its build.",
		read: func(now *Now, put putting) { put(1, now.Name, now.Version) }},
	{name: "cursors_owned", kind: gauge, by: byAll, help: "Subscriptions that this relay delivers."},
	{name: "subscriptions_unable", kind: gauge, by: byAll, help: "Subscriptions that this relay leaves to others, for something that it lacks."},
	{name: "ticks_total", kind: counter, labels: []string{"kind"}, by: byAll, help: "Looks at the database for new messages, by what they were: stream, table or audit."},
	{name: "feed_mode", kind: gauge, labels: []string{"mode"}, by: byAll, help: "1 for how new messages are found now, 0 for the other ways: stream (by logical replication), table (by looking), idle (nobody waits for any).",
		read: readFeedMode},
	{name: "stream_gaps_total", kind: counter, by: byAll, help: "Times that the stream was given up for the table."},
	{name: "windows_completed_total", kind: counter, by: byAll, help: "Windows that the stream did not bring whole and the table completed."},
	{name: "slot_wal_bytes", kind: gauge, by: byAll, help: "WAL that the server keeps for this relay's replication slot; 0 without a slot. It is looked at every two seconds.",
		read: func(now *Now, put putting) { put(float64(now.WAL.Held)) }},
	{name: "slot_wal_budget_bytes", kind: gauge, by: byAll, help: "At how much of it the stream is given up for a while: POSTRIDER_WAL_BUDGET.",
		read: func(now *Now, put putting) { put(float64(now.WAL.Budget)) }},
	{name: "saves_total", kind: counter, labels: []string{"result"}, by: byAll, help: "Saves of progress, by result: ok or error."},
	{name: "memory_used_bytes", kind: gauge, labels: []string{"part"}, by: byAll, help: "Messages in memory: of the stream that nobody sees yet, in queues, in lanes, unsaved (to be copied by the next save), and large ones.",
		read: readMemory},
	{name: "memory_limit_bytes", kind: gauge, by: byAll, help: "What they may take together: POSTRIDER_MEMORY_LIMIT.",
		read: func(now *Now, put putting) { put(float64(now.Memory.Limit)) }},
	{name: "segments_emptied_total", kind: counter, by: byAll, help: "Segments of the outbox that this relay has emptied."},
	{name: "expired_total", kind: counter, labels: []string{"state"}, by: byAll, help: "Dead, discarded and cancelled messages that this relay has removed after their retention, by state."},
	{name: "replica_pages_total", kind: counter, labels: []string{"result"}, by: byReplica, help: "Pages of passes that were to come from the replica: read there, or from the primary because the replica is behind or has failed."},
	{name: "evaluations_total", kind: counter, by: byAll, help: "Evaluations of expressions of subscriptions. What several subscriptions ask of one message counts once."},
	{name: "schedule_runs_total", kind: counter, by: byAll, help: "Messages that this relay has put into the outbox for schedules."},
	{name: "schedule_misses_total", kind: counter, by: byAll, help: "Times that this relay found a schedule overdue of which not all missed runs are made up for."},
	{name: "status_age_seconds", kind: gauge, by: byAll, help: "How long ago the last look at the database was that told something; since the start of the relay if none has.",
		read: func(now *Now, put putting) { put(now.Age.Seconds()) }},
	{name: "status_look_seconds", kind: gauge, by: byAll, help: "How long that look took.", read: looked(func(s *Status, put putting) { put(s.Took.Seconds()) })},
}

var aboutSubscriptions = []definition{
	{name: "subscription_owned", kind: gauge, labels: ofSubscription(), by: byOne, help: "1 while a relay delivers it, 0 while none does. Not told of sql: subscriptions, which need none.",
		read: ofEach(func(s *Subscription, put putting) { put(bit(s.Owned), s.Name) })},
	{name: "subscription_paused", kind: gauge, labels: ofSubscription(), by: byOne, help: "1 while it is paused, else 0.", read: readPaused},
	{name: "lag_seconds", kind: gauge, labels: ofSubscription(), by: byOneLooked, help: "Age of the oldest message that is neither settled nor parked, by what was saved when it was looked at; 0 if there is none.",
		read: lookedEach(func(s *Looked, put putting) { put(s.LagSeconds, s.Name) })},
	{name: "lag_messages", kind: gauge, labels: ofSubscription(), by: byOneLooked, help: "Messages that are neither settled nor parked, as far as they are counted: see counts_bounded.",
		read: lookedEach(func(s *Looked, put putting) { put(float64(s.LagMessages), s.Name) })},
	{name: "oldest_unsettled_seconds", kind: gauge, labels: ofSubscription(), by: byOneLooked, help: "Age of the oldest message that is to be delivered and is not yet: as lag_seconds, or older and retrying, held or leased. Not of what is scheduled, dead, discarded or cancelled.",
		read: lookedEach(func(s *Looked, put putting) { put(s.OldestSeconds, s.Name) })},
	{name: "parked_messages", kind: gauge, labels: ofSubscription("state"), by: byOneLooked, help: "Parked messages by state, as status shows them and as far as they are counted: see counts_bounded.", read: lookedEach(readParked)},
	{name: "counts_bounded", kind: gauge, labels: ofSubscription("of"), by: byOneLooked, help: "1 where there may be more than the number says: of lag (lag_messages) and of parked (parked_messages). Counts end at some thousands.", read: lookedEach(readBounded)},
	{name: "segments_held", kind: gauge, labels: ofSubscription(), by: byOneLooked, help: "Segments of the outbox, of 16, that hold something which it has not settled.",
		read: lookedEach(func(s *Looked, put putting) { put(float64(s.SegmentsHeld), s.Name) })},
	{name: "deliveries_in_flight", kind: gauge, labels: ofSubscription(), by: byOwner, help: "Deliveries under way; a batch is one.",
		read: ofEach(func(s *Subscription, put putting) { s.ifOwned(put, float64(s.InFlight)) })},
	{name: "deliveries_total", kind: counter, labels: ofSubscription("outcome"), by: byOwner, help: "Delivery attempts by outcome."},
	{name: "delivery_latency_seconds", kind: histogram, labels: ofSubscription(), by: byOwner, buckets: latencies,
		help: "Time from INSERT to accepted by the destination, of messages delivered at the first attempt."},
	{name: "parked_total", kind: counter, labels: ofSubscription("state"), by: byOwner, help: "Messages that became an exception, by state; of dead ones from the beginning."},
	{name: "filtered_total", kind: counter, labels: ofSubscription(), by: byOwner, help: "Messages that its filter has left out."},
	{name: "passes_total", kind: counter, labels: ofSubscription(), by: byOwner, help: "Passes over the table to catch up."},
	{name: "destination_down", kind: gauge, labels: ofSubscription(), by: byOwner, help: "1 while the breaker of a subscription's destination is open, else 0."},
	{name: "destination_misconfigured", kind: gauge, labels: ofSubscription(), by: byOwner, help: "1 while the destination counts as down for something that somebody has to change: credentials, a topic or stream that is missing, TLS."},
	{name: "intake_stopped", kind: gauge, labels: ofSubscription(), by: byOwner, help: "1 while a subscription stands still for another reason than its destination: as many messages wait as max_parked, max_scheduled or limits allow, or no worker comes."},
}

var aboutDatabase = []definition{
	{name: "segments", kind: gauge, labels: []string{"state"}, by: byEldest, help: "Segments of the outbox, of 16: filled (not empty), and overdue (of these, past the retention of that relay, and not emptied).", read: looked(func(s *Status, put putting) {
		put(float64(s.SegmentsFilled), "filled")
		put(float64(s.SegmentsOverdue), "overdue")
	}, isEldest)},
	{name: "table_bytes", kind: gauge, labels: []string{"table"}, by: byEldest, help: "Size of the outbox and of postrider.parked on disk, with indexes.", read: looked(func(s *Status, put putting) {
		put(float64(s.OutboxBytes), "outbox")
		put(float64(s.ParkedBytes), "parked")
	}, isEldest)},
	{name: "schedules_overdue", kind: gauge, by: byEldest, help: "Schedules that should have been fired more than a minute ago, up to a thousand.",
		read: looked(func(s *Status, put putting) { put(float64(s.SchedulesOverdue)) }, isEldest)},
	{name: "schedules_in_trouble", kind: gauge, by: byEldest, help: "Schedules that cannot be fired, up to a thousand: `postrider schedules list` says why.",
		read: looked(func(s *Status, put putting) { put(float64(s.SchedulesInTrouble)) }, isEldest)},
}

// aboutProcess are told by others of this process.
var aboutProcess = []definition{
	{name: "jobs", kind: gauge, labels: ofSubscription("state"), by: byHub, help: "Jobs of pull: subscriptions: waiting for a worker, or out with one."},
	{name: "job_takers", kind: gauge, labels: ofSubscription(), by: byHub, help: "Workers that wait for its jobs or have some, here."},
	{name: "job_last_take_timestamp_seconds", kind: gauge, labels: ofSubscription(), by: byHub, help: "When a worker asked for its jobs the last time, or this relay began to deliver it; now, while one waits for some."},
	{name: "job_workers", kind: gauge, by: byAPI, help: "Workers that have called this relay within the last minute."},
	{name: "callbacks_total", kind: counter, labels: []string{"action", "result"}, by: byCallbacks, help: "Callbacks of receivers, by action and by what came of them."},
	{name: "sink_connections_total", kind: counter, labels: ofKind, by: bySinks, help: "Connections that were made to destinations, by kind: the scheme of the sink's URL, http for all webhooks."},
	{name: "sink_connect_failures_total", kind: counter, labels: ofKind, by: bySinks, help: "Attempts to connect to a destination that have failed, by kind."},
	{name: "sink_batches_total", kind: counter, labels: ofKind, by: bySinks, help: "Batches that destinations have answered, with whatever outcomes, by kind. A message that is sent by itself is one."},
	{name: "sink_batch_messages_total", kind: counter, labels: ofKind, by: bySinks, help: "Messages in them."},
	{name: "sink_batch_seconds_total", kind: counter, labels: ofKind, by: bySinks, help: "Time for which they were out, added up: per second it is how many were out at once, per batch how long its answers took."},
	{name: "sink_blocked_seconds_total", kind: counter, labels: ofKind, by: bySinks, help: "Time for which destinations took nothing over connections that stood, such as RabbitMQ during an alarm, added up over these."},
	{name: "trace_spans_total", kind: counter, labels: []string{"result"}, by: byTraces, help: "Spans of attempts that a collector has taken (sent), and that none has, since it did not take them in time or at all (lost)."},
}

func bit(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func isEldest(s *Status) bool { return s.Eldest }

// looked reads what the last look has shown, if that is not too old, and if it is this relay's to tell.
func looked(read func(s *Status, put putting), mine ...func(*Status) bool) func(*Now, putting) {
	return func(now *Now, put putting) {
		if now.Status == nil || slices.ContainsFunc(mine, func(is func(*Status) bool) bool { return !is(now.Status) }) {
			return
		}
		read(now.Status, put)
	}
}

// lookedEach is looked for each subscription.
func lookedEach(read func(s *Looked, put putting)) func(*Now, putting) {
	return looked(func(s *Status, put putting) {
		for i := range s.Subscriptions {
			read(&s.Subscriptions[i], put)
		}
	})
}

// ofEach reads what is known of each subscription that this relay tells of.
func ofEach(read func(s *Subscription, put putting)) func(*Now, putting) {
	return func(now *Now, put putting) {
		for i := range now.Subscriptions {
			read(&now.Subscriptions[i], put)
		}
	}
}

func (s *Subscription) ifOwned(put putting, value float64) {
	if s.Owned {
		put(value, s.Name)
	}
}

func readFeedMode(now *Now, put putting) {
	for _, mode := range []string{FeedStream, FeedTable, FeedIdle} {
		put(bit(now.FeedMode == mode), mode)
	}
}

func readMemory(now *Now, put putting) {
	m := &now.Memory
	put(float64(m.Stream), "stream")
	put(float64(m.Queues), "queues")
	put(float64(m.Lanes), "lanes")
	put(float64(m.Unsaved), "unsaved")
	put(float64(m.Large), "large")
}

// readPaused knows of sql: subscriptions, which no relay delivers, by a look alone.
func readPaused(now *Now, put putting) {
	for _, s := range now.Subscriptions {
		put(bit(s.Paused), s.Name)
	}
	if now.Status == nil {
		return
	}
	for _, s := range now.Status.Subscriptions {
		if s.InSQL {
			put(bit(s.Paused), s.Name)
		}
	}
}

func readParked(s *Looked, put putting) {
	for state, n := range s.Parked {
		put(float64(n), s.Name, state)
	}
}

func readBounded(s *Looked, put putting) {
	put(bit(s.LagMore), s.Name, "lag")
	put(bit(s.ParkedMore), s.Name, "parked")
}

// How new messages are found.
const (
	FeedStream = "stream"
	FeedTable  = "table"
	FeedIdle   = "idle"
)

// Now is what a relay knows at one moment.
type Now struct {
	Name, Version string
	Ready         bool
	FeedMode      string
	WAL           struct{ Held, Budget int64 }
	Memory        Memory
	Subscriptions []Subscription // that it tells of
	Age           time.Duration  // of the last look
	Status        *Status        // what that has shown; nil: none has, or it is too old
}

// Memory is the bytes of messages in memory, by where they are.
type Memory struct{ Limit, Stream, Queues, Lanes, Unsaved, Large int64 }

// Subscription is what is known without a look.
type Subscription struct {
	Name          string
	Owned, Paused bool
	InFlight      int
}

// Status is what a look at the database has shown, of what this relay tells of.
type Status struct {
	Took          time.Duration
	Subscriptions []Looked

	Eldest                               bool // the rest is this relay's to tell
	SegmentsFilled, SegmentsOverdue      int64
	OutboxBytes, ParkedBytes             int64
	SchedulesOverdue, SchedulesInTrouble int64
}

// Looked is what it has shown of a subscription.
type Looked struct {
	Name          string
	InSQL, Paused bool // workers take it in SQL: no relay delivers it
	LagMessages   int64
	LagMore       bool
	LagSeconds    float64
	OldestSeconds float64
	Parked        map[string]int64 // by state
	ParkedMore    bool
	SegmentsHeld  int64
}

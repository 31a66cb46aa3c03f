package outbox

import "time"

// maxBytes bounds a message: PostgreSQL's jsonb ends at 256 MiB, its fields at 1 GiB with everything that quoting adds.
const maxBytes = 128 << 20

// Message is what is to be delivered. Topic and one of Payload and Body must be given.
type Message struct {
	// Topic says what the message is about: tokens of printable ASCII joined by dots, such as orders.created. At most 255 bytes.
	Topic string
	// Key, if not empty, keeps messages of the same key in order.
	Key string
	// Payload is marshalled by encoding/json; a json.RawMessage is taken as it is. It is stored as jsonb: white space, the
	// order of an object's fields and all but the last of equal names are not kept.
	Payload any
	// Body is anything that is not JSON. An empty body is one that is not nil.
	Body []byte
	// Headers go along with the message. Names are not empty; HTTP and NATS can carry letters, digits and dashes.
	Headers map[string]string
	// DeliverAt, if not zero, is when the message is due. It is rounded to microseconds.
	DeliverAt time.Time
	// Priority is from 1 (first) to 4 (last), for subscriptions that have priorities. 0 stands for the default, 2.
	Priority int
	// UniqueKey, if not empty, names the effect that is wanted once, such as invoice-17-reminder: the message is not enqueued while another
	// one has the key. It names the effect, not the entity: messages that do different things with one order need different keys. At most
	// 1000 bytes.
	UniqueKey string
	// UniqueScope says for how long a message has its UniqueKey: pending:NAME until the subscription of this name has settled it, or a time
	// since it was enqueued, such as 1h. It goes with UniqueKey.
	UniqueScope string
	// UniqueReplace says that the latest message wins: it takes the place of another one that has its UniqueKey, which is cancelled unless
	// somebody has it already. It goes with a UniqueScope of pending:NAME.
	UniqueReplace bool
}

// Result is what became of a message.
type Result struct {
	// ID is the message's or, of a duplicate, that of the message that has its unique key.
	ID int64
	// Duplicate says that another message has its unique key. If that may have been delivered already, or be on its way, the message is
	// enqueued all the same, once, when that one is settled.
	Duplicate bool
}

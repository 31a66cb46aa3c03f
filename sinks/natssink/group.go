package natssink

import (
	"bytes"

	"github.com/nats-io/nats.go"
)

// groupSize is how many messages of a large batch share a subject to answer to: a server looks each subject up that it has not
// seen, which costs it more than anything else that it does with an acknowledgement.
const groupSize = 32

// group is messages that are answered at one subject. As many answers as there are messages, all from one stream, none of them
// an error or a duplicate, and with sequences that ascend, say that each message was stored: the stream gives each message
// that it stores one sequence and one answer. Whatever else the answers are, they do not tell which message is meant, so all messages
// of the group are published once more, each with a subject of its own: their ids spare the stream a second copy.
type group struct {
	message  int // of a group of one
	sent     int
	answered int
	last     uint64 // sequence
	doubtful bool
}

// count takes an answer in that is one of several at its subject.
func (l *lane) count(g *group, m *nats.Msg) {
	name, sequence := storedNow(m.Data)
	if len(l.stream) == 0 {
		l.stream = append(l.stream, name...)
	}
	if sequence <= g.last || !bytes.Equal(name, l.stream) {
		g.doubtful = true
	}
	g.last = sequence
}

// conclude settles the groups that were answered as they should be, and returns the messages of those that were answered otherwise.
func (l *lane) conclude() (doubtful []int) {
	for i, err := range l.outcomes {
		if err != errPending {
			continue
		}
		switch g := &l.groups[l.groupOf(i)]; {
		case g.answered < g.sent:
		case g.doubtful:
			doubtful = append(doubtful, i)
		default:
			l.outcomes[i] = nil
		}
	}
	return doubtful
}

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
func (in *inbox) count(g *group, m *nats.Msg) {
	name, sequence := storedNow(m.Data)
	if len(in.stream) == 0 {
		in.stream = append(in.stream, name...)
	}
	if sequence <= g.last || !bytes.Equal(name, in.stream) || !in.isExpected(name) {
		g.doubtful = true
	}
	g.last = sequence
}

// isExpected says whether a stream, as it calls itself, may take the messages.
func (in *inbox) isExpected(stream []byte) bool {
	if in.expected == nil {
		return true
	}
	rest, ok := bytes.CutPrefix(stream, []byte(in.expected[0]))
	return ok && (len(rest) == 0 || bytes.HasPrefix(rest, ackDomain))
}

// confirm remembers of which subjects the expected stream has stored the last message.
func (in *inbox) confirm() {
	if in.expected == nil {
		return
	}
	last := ""
	for i, err := range in.outcomes {
		switch subject := in.subjects[i]; {
		case subject == "":
		case err != nil:
			delete(in.confirmed, subject)
			last = ""
		case subject != last:
			in.confirmed[subject] = struct{}{}
			last = subject
		}
	}
}

// conclude settles the groups that were answered as they should be, and returns the messages of those that were answered otherwise.
func (in *inbox) conclude() (doubtful []int) {
	for i, err := range in.outcomes {
		if err != errPending {
			continue
		}
		switch g := &in.groups[in.groupOf(i)]; {
		case g.answered < g.sent:
		case g.doubtful:
			doubtful = append(doubtful, i)
		default:
			in.outcomes[i] = nil
		}
	}
	return doubtful
}

package torture

import (
	"fmt"
	"sync"
	"time"
)

// answer is what a producer was told when it ended its transaction.
type answer int

const (
	answerLost answer = iota // the connection broke: only the database knows
	answerCommitted
	answerRolledBack
)

// transaction is one attempt of a producer.
type transaction struct {
	number   int64
	messages []Message    // without those of savepoints that were rolled back
	calls    []uniqueCall // likewise
	answer   answer
	ended    time.Time // when the answer came, or the connection broke
	server   string    // host:port of the server that it was on
	prepared bool      // it ended in two phases
}

// history is what the producers did. What became of it is in the database: each transaction also writes its number into
// the table torture.tx.
type history struct {
	mu    sync.Mutex
	last  int64
	ended []*transaction

	cancels cancels
	// firedUntil is until when all schedules are known to have been fired, awaited is when it was last waited for all to arrive.
	firedUntil, awaited time.Time
}

// begin hands out the next number.
func (h *history) begin() *transaction {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	return &transaction{number: h.last}
}

// end records how a transaction ended, as far as its producer knows.
func (h *history) end(t *transaction, a answer) {
	t.answer, t.ended = a, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, t)
}

// truth is a history together with what the database says of it.
type truth struct {
	messages                          map[int64]Message   // committed
	ended                             map[int64]time.Time // of the message's transaction
	transactions, rolledBack, unknown int
	// vanished are messages of transactions that committed, perhaps, on a server that was killed before its standby had them.
	vanished map[int64]bool
	// cancelled says when messages were, by subscription.
	cancelled map[string]map[int64]time.Time
	ledger
	// wrong are transactions of which producer and database say different things.
	wrong []string
}

// settle compares the history with the numbers of the transactions that the database holds. What was confirmed by a server
// that its standby has replaced (host:port, or nothing) may be gone.
func (h *history) settle(committed map[int64]bool, replaced string) *truth {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &truth{messages: make(map[int64]Message), ended: make(map[int64]time.Time), vanished: make(map[int64]bool)}
	for _, tx := range h.ended {
		t.transactions++
		if tx.answer == answerLost {
			t.unknown++
		}
		mayVanish := replaced != "" && tx.server == replaced && tx.answer != answerRolledBack
		// What was prepared is still so where the second phase has not arrived, and then it commits.
		mayReturn := replaced != "" && tx.server == replaced && tx.prepared
		if tx.answer == answerRolledBack && committed[tx.number] && !mayReturn || tx.answer == answerCommitted && !committed[tx.number] && !mayVanish {
			t.wrong = append(t.wrong, tx.describe(committed[tx.number]))
		}
		if !committed[tx.number] {
			t.rolledBack++
			for _, m := range tx.messages {
				t.vanished[m.ID] = mayVanish
			}
			continue
		}
		for _, m := range tx.messages {
			t.messages[m.ID] = m
			t.ended[m.ID] = tx.ended
		}
	}
	return t
}

func (t *transaction) describe(committed bool) string {
	told, is := "that it committed", "is not in the database"
	if t.answer == answerRolledBack {
		told = "that it rolled back"
	}
	if committed {
		is = "is in the database"
	}
	return fmt.Sprintf("transaction %d: its producer was told %s, but it %s", t.number, told, is)
}

// amend records how a prepared transaction ended.
func (h *history) amend(t *transaction, command string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.ended, t.prepared = time.Now(), true
	switch {
	case err != nil:
		t.answer = answerLost
	case command == "ROLLBACK PREPARED ":
		t.answer = answerRolledBack
	}
}

// ledger is what the database says of what producers do not number, or what was done beside them.
type ledger struct {
	log       []logRow
	steps     []scheduleStep
	results   []kept
	happened  []happening
	waiting   []waiting
	calls     []uniqueCall // of transactions that committed
	committed map[int64]time.Time
	spared    []spared
	replaced  bool // a standby has replaced the primary
}

// settleCalls is settle for messages with unique keys.
func (h *history) settleCalls(t *truth, committed map[int64]bool, replaced string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.committed, t.replaced = make(map[int64]time.Time), replaced != ""
	for _, tx := range h.ended {
		for _, c := range tx.calls {
			if committed[tx.number] {
				t.calls = append(t.calls, c)
				t.committed[c.id] = tx.ended
			}
		}
	}
}

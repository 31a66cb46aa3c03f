package delivery

import (
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
)

// lanes are what waits to be delivered, and what is out.
type lanes struct {
	all      []*lane // of a sender: all that there are by now, used or not
	most     int     // that may have something out
	batchMax int
	free     waiting         // without a key: for any lane
	keys     map[string]bool // see formKeys

	sending  sending // if the sink is a sender
	tasks    int     // in lanes and free, delivering included
	bytes    int64
	inFlight int
	alone    int       // of these, messages that are read by themselves
	lingers  time.Time // when the first lane stops to wait for a full batch; zero: none waits
	started  int       // deliveries, which are numbered by it
	finished struct {
		sync.Mutex
		lanes     []*lane
		leases    []leaseEnd
		collected []*lane // the other of two arrays that take turns
	}
	leasing leasing
	tenant  tenant // of the room for messages that are read by themselves
}

// count keeps accounts of a task that comes (1) or goes (-1).
func (ls *lanes) count(t *task, n int) {
	size := int64(n) * t.row.Size()
	ls.tasks += n
	ls.bytes += size
	if t.in != nil {
		t.in.tasks += n
		t.in.bytes += size
	}
}

// make makes the lanes of a sink, or prepares for those of a sender.
func (ls *lanes) make(to sinks.Sender, n, batch int) {
	ls.most, ls.batchMax = n, batch
	if to != nil {
		ls.batchMax = 1
		_, late := to.(sinks.LateLoader)
		ls.sending = sending{to: to, late: late, byKey: make(map[string]*lane), ready: make([][]*lane, 1)}
		return
	}
	ls.all = make([]*lane, n)
	for i := range ls.all {
		ls.all[i] = &lane{batchMax: batch}
	}
}

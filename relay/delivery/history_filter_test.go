package delivery

import "github.com/postrider/postrider/relay/expression"

// simChoice is a filter: what it says of messages, by their ids, which the model works out by itself.
type simChoice struct {
	text             string
	leaves, troubles int64 // each so manieth message is left out, or cannot be judged; 0: none
}

var simChoices = []simChoice{
	{},
	{text: "id % 3 != 0", leaves: 3},
	{},
	{text: "payload == 1 && (id % 4 == 0 ? payload.nothing : true)", troubles: 4},
	{text: "id % 2 != 0 && (id % 7 == 0 ? payload.nothing : true)", leaves: 2, troubles: 7},
}

func (c simChoice) leavesOut(id int64) bool { return c.leaves > 0 && id%c.leaves == 0 }

func (c simChoice) cannotJudge(id int64) bool {
	return !c.leavesOut(id) && c.troubles > 0 && id%c.troubles == 0
}

// choose gives the subscription a filter.
func (x *simRunner) choose(c simChoice) {
	if x.choice = c; c.text == "" {
		return
	}
	p, err := expression.Filter(c.text)
	if err != nil {
		panic(err)
	}
	with := *x.filter
	with.wanted = p
	x.filter, x.sim.chose = &with, true
}

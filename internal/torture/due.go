package torture

// parked returns which messages have to end as dead letters, and which of their keys these hold.
func (e *evidence) parked(x Expectation) (dead, held map[int64]bool) {
	dead, held = make(map[int64]bool), make(map[int64]bool)
	wanted := e.wanted(x)
	keys := heldKeys(x, wanted)
	for id, m := range wanted {
		order, isHeld := keys[m.Key]
		switch {
		case isHeld && m.Order > order:
			held[id] = true
		case m.Poison:
			dead[id] = true
		}
	}
	return dead, held
}

// due returns the messages that have to arrive.
func (e *evidence) due(x Expectation) (ids []int64) {
	dead, held := e.parked(x)
	for id := range e.wanted(x) {
		if !dead[id] && !held[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

package delivery

// crowd counts parked messages towards max_parked, so that one key's cannot fill it for all: of one key's, only a share counts. It is pure.
//
//   - so many as max_parked count, and intake stops;
//   - of one key, a tenth of that counts, and it has no more than max_parked: what comes after stays in its lane;
//   - whatever counts, there are never more than twice max_parked.
type crowd struct {
	limit, share int
	counted      int
	all          int
	byKey        map[string]int
	most         string // the key that has the most, or had
}

// newCrowd makes the count for max_parked. Where all messages are of one key, there are no others to keep a place for.
func newCrowd(limit int, oneKey bool) crowd {
	share := max(limit/10, 1)
	if oneKey {
		share = limit
	}
	return crowd{limit: limit, share: share, byKey: make(map[string]int)}
}

// add counts n more messages of a key, or less; the key is empty for none.
func (c *crowd) add(key string, n int) {
	c.all += n
	if key == "" {
		c.counted += n
		return
	}
	was := c.byKey[key]
	c.counted += min(was+n, c.share) - min(was, c.share)
	if c.byKey[key] = was + n; was+n == 0 {
		delete(c.byKey, key)
	}
	if was+n > c.byKey[c.most] {
		c.most = key
	}
}

// full says whether no more are to be taken in.
func (c *crowd) full() bool { return c.counted >= c.limit || c.all >= 2*c.limit }

// bears says whether one more of the key may be parked behind others of it.
func (c *crowd) bears(key string) bool { return c.byKey[key] < c.limit }

// hot returns the key that has more than its share, with how many; "" if none has.
func (c *crowd) hot() (key string, n int) {
	if n = c.byKey[c.most]; n <= c.share || c.share == c.limit {
		return "", 0
	}
	return c.most, n
}

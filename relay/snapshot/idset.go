package snapshot

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// idRange is the ids from lo up to, not including, hi.
type idRange struct{ lo, hi int64 }

// idSet is a set of ids as ascending ranges that neither touch nor overlap: PostgreSQL's int8multirange.
type idSet []idRange

// NewIDSet makes a set of ids, which it sorts in place.
func NewIDSet(ids []int64) idSet {
	slices.Sort(ids)
	var s idSet
	for _, id := range ids {
		if n := len(s); n > 0 && id <= s[n-1].hi {
			s[n-1].hi = max(s[n-1].hi, id+1)
			continue
		}
		s = append(s, idRange{id, id + 1})
	}
	return s
}

// ParseIDSet reads the canonical text form {[1,4),[7,8)}.
func ParseIDSet(text string) (idSet, error) {
	inner, ok1 := strings.CutPrefix(text, "{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("multirange %q: must be written as {[1,4),[7,8)}", text)
	}
	var s idSet
	for inner != "" {
		end := strings.IndexByte(inner, ')')
		if end < 0 || inner[0] != '[' {
			return nil, fmt.Errorf("multirange %q: must be written as {[1,4),[7,8)}", text)
		}
		lo, hi, _ := strings.Cut(inner[1:end], ",")
		from, err1 := strconv.ParseInt(lo, 10, 64)
		to, err2 := strconv.ParseInt(hi, 10, 64)
		if err1 != nil || err2 != nil || from >= to || (len(s) > 0 && from <= s[len(s)-1].hi) {
			return nil, fmt.Errorf("multirange %q: must hold bounded ranges in ascending order", text)
		}
		s = append(s, idRange{from, to})
		inner = strings.TrimPrefix(inner[end+1:], ",")
	}
	return s, nil
}

// String writes the text form that PostgreSQL reads.
func (s idSet) String() string {
	b := []byte{'{'}
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, r.lo, 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, r.hi, 10)
		b = append(b, ')')
	}
	return string(append(b, '}'))
}

func (s idSet) has(id int64) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].hi > id })
	return i < len(s) && s[i].lo <= id
}

// above returns the ids greater than id.
func (s idSet) above(id int64) idSet {
	i := sort.Search(len(s), func(i int) bool { return s[i].hi > id+1 })
	rest := slices.Clone(s[i:])
	if len(rest) > 0 {
		rest[0].lo = max(rest[0].lo, id+1)
	}
	return rest
}

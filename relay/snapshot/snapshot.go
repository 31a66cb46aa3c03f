package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot says which transactions are visible, as PostgreSQL's pg_snapshot does (src/backend/utils/adt/xid8funcs.c): all
// below Xmax except those in Xip. The zero value sees nothing.
type Snapshot struct {
	Xmax uint64
	Xip  []uint64 // running transactions below Xmax, ascending
}

// Parse reads the text form xmin:xmax:xip,xip,….
func Parse(text string) (Snapshot, error) {
	fail := func() (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("snapshot %q: must be xmin:xmax:xip,xip,… in ascending order", text)
	}
	xmins, rest, ok1 := strings.Cut(text, ":")
	xmaxs, xips, ok2 := strings.Cut(rest, ":")
	xmin, err1 := strconv.ParseUint(xmins, 10, 64)
	xmax, err2 := strconv.ParseUint(xmaxs, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || xmin == 0 || xmin > xmax {
		return fail()
	}
	s := Snapshot{Xmax: xmax}
	last := xmin - 1
	for part := range strings.SplitSeq(xips, ",") {
		if xips == "" {
			break
		}
		x, err := strconv.ParseUint(part, 10, 64)
		if err != nil || x <= last || x >= xmax {
			return fail()
		}
		s.Xip = append(s.Xip, x)
		last = x
	}
	return s, nil
}

// Decode reads the binary form: the number of running transactions in 4 bytes, then in 8 bytes each xmin, xmax and them.
func Decode(b []byte) (Snapshot, error) {
	if len(b) < 20 || len(b) != 20+8*int(binary.BigEndian.Uint32(b)) {
		return Snapshot{}, errSnapshot
	}
	xmin, s := binary.BigEndian.Uint64(b[4:]), Snapshot{Xmax: binary.BigEndian.Uint64(b[12:])}
	if xmin == 0 || xmin > s.Xmax {
		return Snapshot{}, errSnapshot
	}
	if b = b[20:]; len(b) > 0 {
		s.Xip = make([]uint64, 0, len(b)/8)
	}
	for last := xmin - 1; len(b) > 0; b = b[8:] {
		x := binary.BigEndian.Uint64(b)
		if x <= last || x >= s.Xmax {
			return Snapshot{}, errSnapshot
		}
		s.Xip = append(s.Xip, x)
		last = x
	}
	return s, nil
}

// Xmin is the lowest transaction that is not visible.
func (s Snapshot) Xmin() uint64 {
	if len(s.Xip) > 0 {
		return s.Xip[0]
	}
	return s.Xmax
}

// String writes the text form that PostgreSQL reads. The zero value is written as one that sees nothing.
func (s Snapshot) String() string {
	if s.Xmax == 0 {
		return "3:3:" // 3 is FirstNormalTransactionId
	}
	b := make([]byte, 0, 48+20*len(s.Xip))
	b = strconv.AppendUint(b, s.Xmin(), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.Xmax, 10)
	b = append(b, ':')
	b = AppendIDs(b, s.Xip)
	return string(b)
}

// Sees says whether the transaction is visible.
func (s Snapshot) Sees(xid uint64) bool {
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}

// Equal says whether both see the same.
func (s Snapshot) Equal(o Snapshot) bool { return s.Xmax == o.Xmax && slices.Equal(s.Xip, o.Xip) }

// Covers says whether s sees everything that o sees. Of two snapshots of one primary, the later covers the earlier.
func (s Snapshot) Covers(o Snapshot) bool {
	if s.Xmax < o.Xmax {
		from, _ := slices.BinarySearch(o.Xip, s.Xmax)
		if uint64(len(o.Xip)-from) != o.Xmax-s.Xmax { // unless all that lie between were running in o
			return false
		}
	}
	return !slices.ContainsFunc(s.Xip, o.Sees)
}

// XipArray writes the running transactions as a PostgreSQL array.
func (s Snapshot) XipArray() []byte {
	return append(AppendIDs([]byte{'{'}, s.Xip), '}')
}

func AppendIDs[T uint64 | int64](b []byte, ids []T) []byte {
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		if id < 0 {
			b = strconv.AppendInt(b, int64(id), 10)
		} else {
			b = strconv.AppendUint(b, uint64(id), 10)
		}
	}
	return b
}

var errSnapshot = errors.New("a snapshot is not in the binary format of pg_snapshot")

package postgres

import "encoding/binary"

// array is an array as PostgreSQL has it in binary. As text, each payload's quotes would be escaped here and unescaped there.
type array struct {
	b    []byte
	said bool // some element says something
}

// Its head: dimensions, whether there are NULLs, the type of its elements, their number, the number of the first one.
const headOfNone, headOfSome = 12, 20

// newArray makes one for n elements that take so many bytes.
func newArray(oid uint32, n, bytes int) *array {
	a := &array{b: make([]byte, 0, headOfSome+4*n+bytes)}
	for _, word := range []uint32{1, 0, oid, uint32(n), 1} {
		a.b = binary.BigEndian.AppendUint32(a.b, word)
	}
	return a
}

func (a *array) text(value string, says bool) {
	a.b = append(binary.BigEndian.AppendUint32(a.b, uint32(len(value))), value...)
	a.said = a.said || says
}

func (a *array) bytes(value []byte, says bool) {
	a.b = append(binary.BigEndian.AppendUint32(a.b, uint32(len(value))), value...)
	a.said = a.said || says
}

// number adds one of 1 to 8 bytes.
func (a *array) number(bytes int, value uint64) {
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(bytes))
	for shift := 8 * (bytes - 1); shift >= 0; shift -= 8 {
		a.b = append(a.b, byte(value>>shift))
	}
	a.said = true
}

// wire returns it. If no element says anything it is empty: unnest makes NULLs of that beside longer ones.
func (a *array) wire() []byte {
	if a.said {
		return a.b
	}
	binary.BigEndian.PutUint32(a.b, 0)
	return a.b[:headOfNone]
}

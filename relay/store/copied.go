package store

import (
	"strconv"
	"strings"

	"github.com/postrider/postrider/relay/message"
)

// copied is a column that a parked row has from its message.
type copied struct {
	name  string
	array string // the type of the parameter that has one value per row
	// value is what becomes the column's: p is the row's parameters, m what is copied from the outbox instead of them. "": the parameter.
	value  string
	values func(rows []*message.Row) any
}

// copies is the only list of them: the save, and what reads parked rows, are made from it.
var copies = [...]copied{
	{name: "xid", array: "text[]", value: "p.xid::xid8", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) *string {
			if r.XID == 0 {
				return nil
			}
			return new(strconv.FormatUint(r.XID, 10))
		})
	}},
	{name: "topic", array: "text[]", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) string { return r.Topic })
	}},
	{name: "key", array: "text[]", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) *string { return orNull(r.Key) })
	}},
	{name: "payload", array: "text[]", value: "coalesce(p.payload::jsonb, m.payload)", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) *string {
			if r.Withheld || !r.JSON {
				return nil
			}
			return new(string(r.Payload))
		})
	}},
	{name: "body", array: "bytea[]", value: "coalesce(p.body, m.body)", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) []byte {
			switch {
			case r.Withheld || r.JSON:
				return nil
			case r.Payload == nil:
				return []byte{}
			}
			return r.Payload
		})
	}},
	{name: "headers", array: "text[]", value: "coalesce(p.headers::jsonb, m.headers)", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) *string { return orNull(string(r.Headers)) })
	}},
	{name: "priority", array: "smallint[]", values: func(rows []*message.Row) any {
		return each(rows, func(r *message.Row) int16 { return r.Priority })
	}},
}

func each[T any](rows []*message.Row, value func(*message.Row) T) []T {
	values := make([]T, len(rows))
	for i, r := range rows {
		values[i] = value(r)
	}
	return values
}

// copiedList writes something of each column, separated by commas.
func copiedList(of func(*copied) string) string {
	var list []string
	for i := range copies {
		list = append(list, of(&copies[i]))
	}
	return strings.Join(list, ", ")
}

func (c *copied) column() string { return c.name }

func (c *copied) parameter() string { return "@in_" + c.name + "::" + c.array }

func (c *copied) inserted() string {
	if c.value == "" {
		return "p." + c.name
	}
	return c.value
}

// parkedColumns are the outbox's columns as a parked row has them.
var parkedColumns = func() string {
	var list []string
	for _, name := range message.Columns {
		switch name {
		case "deliver_at": // it was due when it was parked, or its row says when it will be
			name = "NULL::timestamptz AS deliver_at"
		case "xid":
			name = "coalesce(xid, '0') AS xid"
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}()

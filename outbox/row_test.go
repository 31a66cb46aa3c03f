package outbox

import (
	"fmt"
	"reflect"
	"testing"
)

func rowsOf(n int) []row {
	rows := make([]row, n)
	for i := range rows {
		rows[i] = row{topic: "orders.created", key: new(fmt.Sprint(i)), payload: new(`{"n": 1}`)}
	}
	return rows
}

// A statement has an array for each column that some row has: what it takes to make does not grow with each row.
func TestStatementAllocatesByColumn(t *testing.T) {
	allocations := func(n int) float64 {
		rows := rowsOf(n)
		return testing.AllocsPerRun(20, func() { insertMany(rows, true) })
	}
	if few, many := allocations(10), allocations(1000); many > few+5 {
		t.Errorf("%v allocations for 1,000 rows, %v for 10", many, few)
	}
}

// Drivers encode strings quickly and pointers to them slowly, but only those may be NULL.
func TestArraysHoldNullsWhereTheyMust(t *testing.T) {
	rows := rowsOf(2)
	_, args := insertMany(rows, true)
	if want := []any{[]string{"orders.created", "orders.created"}, []string{"0", "1"}, []string{`{"n": 1}`, `{"n": 1}`}}; !reflect.DeepEqual(args, want) {
		t.Errorf("got %v, want %v", args, want)
	}
	for _, missing := range []int{0, 1} {
		rows := rowsOf(2)
		rows[missing].key = nil
		_, args := insertMany(rows, true)
		if keys, ok := args[1].([]*string); !ok || len(keys) != 2 || keys[missing] != nil || keys[1-missing] == nil || *keys[1-missing] != fmt.Sprint(1-missing) {
			t.Errorf("without the key of row %d the keys are %v", missing, args[1])
		}
	}
}

package store

import (
	"slices"
	"testing"
)

func TestNamedParametersAreNumberedOnce(t *testing.T) {
	n := newNamed(`SELECT @b::text[], x @> @a, @b_c, @b`)
	if want := `SELECT $1::text[], x @> $2, $3, $1`; n.sql != want {
		t.Errorf("got %s, want %s", n.sql, want)
	}
	if args := n.bind(map[string]any{"a": 1, "b": 2, "b_c": 3}); !slices.Equal(args, []any{2, 1, 3}) {
		t.Errorf("bound as %v, want 2, 1, 3", args)
	}
}

// The statement and what binds its parameters know the same names: Bind would panic.
func TestSaveBindsAllItsParameters(t *testing.T) {
	plain, records := saveArgs("", nil, "")
	if args := saveStatement.bind(plain); records || len(args) < 30 {
		t.Errorf("%d parameters, with records: %t", len(args), records)
	}
	full, records := saveArgs("", []Progress{{Results: []Result{{}}}}, "")
	if args := recordingStatement.bind(full); !records || len(args) < 48 {
		t.Errorf("%d parameters, with records: %t", len(args), records)
	}
}

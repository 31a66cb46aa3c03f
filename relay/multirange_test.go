package relay

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/snapshot"
)

func TestIDSetIsPostgresMultirange(t *testing.T) {
	t.Parallel()
	conn := newBench(t).DB.Conn(t)
	texts := []string{"{}", "{[1,2)}", "{[-5,-1),[0,9223372036854775807)}", "{[9223372036854775806,9223372036854775807)}"}
	rapid.Check(t, func(t *rapid.T) {
		texts = append(texts, snapshot.NewIDSet(rapid.SliceOfN(rapid.Int64Range(1, 60), 0, 40).Draw(t, "ids")).String())
	})
	rows, err := conn.Query(t.Context(), "SELECT x::int8multirange::text FROM unnest($1::text[]) WITH ORDINALITY u (x, n) ORDER BY n", texts)
	mend(t, err)
	theirs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	mend(t, err)
	if !slices.Equal(texts, theirs) {
		t.Errorf("PostgreSQL writes %v, we write %v", theirs, texts)
	}
	for _, text := range theirs {
		if s, err := snapshot.ParseIDSet(text); err != nil || s.String() != text {
			t.Errorf("%s was read as %s, %v", text, s, err)
		}
	}
	// What PostgreSQL makes of any text, it writes in the form that we read.
	var text string
	mend(t, conn.QueryRow(t.Context(), "SELECT '{[3,3],(7,9],[1,2],[4,6)}'::int8multirange::text").Scan(&text))
	if s, err := snapshot.ParseIDSet(text); err != nil || s.String() != "{[1,6),[8,10)}" {
		t.Errorf("%s was read as %s, %v", text, s, err)
	}
}

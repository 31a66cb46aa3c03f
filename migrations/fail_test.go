package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// A reason shows as it is: what does not show, and changes how the rest does, is a blank, whatever the database's encoding and the session's
// way to read texts are.
func TestReasonsOfWorkersAreClean(t *testing.T) {
	for encoding, reasons := range map[string]map[string]string{ // as bytes of the encoding
		"UTF8": {
			"not now \u2713 gr\u00fcn":                      "not now \u2713 gr\u00fcn",
			"a\x07b\u0085c\u202ed\u2066e\ufefff\U000e0041g": "a b c d e f g",
			"\u200b\r\n": "failed",
			"(\u061c)":   "( )",
		},
		"SQL_ASCII": {
			"not now \u2713 gr\u00fcn":                      "not now \u2713 gr\u00fcn",
			"a\x07b\u0085c\u202ed\u2066e\ufefff\U000e0041g": "a b c d e f g",
			"\xfe\x80\xff":                                  "\xfe\x80\xff",
		},
		"LATIN1": {"gr\xfcn\x07\x85\xad.": "gr\xfcn   ."},
		"LATIN2": {"gr\xfcn\x07\x7f.": "gr\xfcn  ."},
	} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Encoded(t, encoding)
			if _, err := Up(t.Context(), db.URL()); err != nil {
				t.Fatal(err)
			}
			conn := db.Conn(t)
			exec(t, conn, "SET standard_conforming_strings = off")
			exec(t, conn, "SET client_encoding = 'SQL_ASCII'")
			subscribe(t, conn, "s", "now", ">")
			for reason, want := range reasons {
				exec(t, conn, "DELETE FROM postrider.parked")
				exec(t, conn, `INSERT INTO postrider.parked (subscription, id, created_at, state, token, due, topic, payload)
					VALUES ('s', 1, now(), 'leased', 5, now() + interval '1 minute', 't', '1')`)
				if !one[bool](t, conn, "SELECT postrider.fail('s', 1, 5, convert_from($1, $2))", []byte(reason), encoding) {
					t.Fatal("the attempt is unknown")
				}
				got := string(one[[]byte](t, conn, "SELECT convert_to(reason, $1) FROM postrider.parked", encoding))
				if got != "the receiver reports: "+want {
					t.Errorf("%q becomes %q, want %q", reason, got, want)
				}
			}
		})
	}
}

package dbconn

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	utf8Name  = "UTF8"
	asciiName = "SQL_ASCII"
	latinName = "LATIN1"
)

// Encoding is the encoding of a database, by PostgreSQL's name; empty is taken for UTF8.
type Encoding string

// EncodingOf returns the encoding of the connection's database.
func EncodingOf(conn *pgconn.PgConn) Encoding {
	return Encoding(conn.ParameterStatus("server_encoding"))
}

// Unchecked says whether texts of the database may be in any encoding, or none: then nothing is converted, and what is read need
// not be UTF-8. Asking for a conversion there would only make the bytes that are not UTF-8 unreadable, with all that is read
// along with them.
func (e Encoding) Unchecked() bool { return e == asciiName }

// Storable returns the text with what the database cannot hold replaced: zero bytes and bytes that are not UTF-8 by "�", and in a
// database that is not in UTF-8 other characters by \u escapes. It is for texts that people read, such as reasons.
func (e Encoding) Storable(text string) string {
	plain := e == "" || e == utf8Name || e.Unchecked()
	if plain && utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if r == 0 {
			r = utf8.RuneError
		}
		b.WriteString(e.spell(r, plain))
	}
	return b.String()
}

// spell writes a character as the database can hold it.
func (e Encoding) spell(r rune, plain bool) string {
	switch {
	case plain, r < utf8.RuneSelf, e == latinName && r >= 0xa0 && r <= 0xff:
		return string(r)
	case r == utf8.RuneError:
		return "?"
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// JSON returns JSON that means the same in a database of any encoding: the type json takes any \u escape.
func (e Encoding) JSON(text []byte) string {
	if e == "" || e == utf8Name {
		return string(text)
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case high != utf8.RuneError:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// matchEncoding makes the client's encoding UTF-8, except where nothing is converted anyway. Poolers carry it over.
func matchEncoding(ctx context.Context, conn *pgconn.PgConn) error {
	if !EncodingOf(conn).Unchecked() {
		return nil
	}
	if _, err := ask(ctx, conn, "SET client_encoding = '"+asciiName+"'"); err != nil {
		return fmt.Errorf("set the encoding: %w", err)
	}
	return nil
}

package outbox

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDigits bounds a number of a payload, written out without an exponent. PostgreSQL's numeric ends at 131,072 digits before
// the point and 16,383 behind it.
const maxDigits = 16_000

// checkJSON tells what jsonb refuses: besides what is no JSON, text that is not UTF-8, escaped zero characters and halves of
// surrogate pairs, and numbers out of its range.
func checkJSON(text []byte) *flaw {
	if len(text) == 0 {
		return &flaw{problem: "is empty, which is not JSON", want: `json.RawMessage("null") is a payload without content`}
	}
	if !utf8.Valid(text) {
		return &flaw{problem: "is not valid UTF-8", want: "give JSON in UTF-8, or use Body"}
	}
	if !json.Valid(text) {
		return &flaw{problem: "is not JSON", cause: json.Unmarshal(text, new(json.RawMessage)), want: "give JSON, or use Body"}
	}
	for i := 0; i < len(text); {
		var f *flaw
		switch c := text[i]; {
		case c == '"':
			i, f = checkString(text, i+1)
		case c == '-' || '0' <= c && c <= '9':
			i, f = checkNumber(text, i)
		default:
			i++
		}
		if f != nil {
			return f
		}
	}
	return nil
}

// checkString checks the string that begins at i, of valid JSON, and returns where it ends.
func checkString(text []byte, i int) (end int, f *flaw) {
	for text[i] != '"' {
		if text[i] != '\\' {
			i++
			continue
		}
		if text[i+1] != 'u' {
			i += 2
			continue
		}
		unit := hex4(text[i+2:])
		switch {
		case unit == 0:
			return i, &flaw{problem: `holds the escape \u0000, which PostgreSQL cannot store in jsonb`, want: "use Body"}
		case 0xDC00 <= unit && unit < 0xE000, 0xD800 <= unit && unit < 0xDC00 && !lowSurrogate(text[i+6:]):
			return i, &flaw{problem: fmt.Sprintf("holds the escape %s, half a surrogate pair, which is not a character", text[i:i+6]), want: "use Body"}
		case 0xD800 <= unit && unit < 0xDC00:
			i += 6
		}
		i += 6
	}
	return i + 1, nil
}

func lowSurrogate(text []byte) bool {
	if text[0] != '\\' || text[1] != 'u' {
		return false
	}
	unit := hex4(text[2:])
	return 0xDC00 <= unit && unit < 0xE000
}

// hex4 reads four hexadecimal digits.
func hex4(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(text[:4]), 16, 16)
	return n
}

// checkNumber checks the number that begins at i, of valid JSON, and returns where it ends.
func checkNumber(text []byte, i int) (end int, f *flaw) {
	exponent := 0
	end = i
	for end < len(text) && isNumberByte(text[end]) {
		if text[end] == 'e' || text[end] == 'E' {
			exponent = end + 1
		}
		end++
	}
	digits := end - i
	if exponent > 0 {
		n, err := strconv.Atoi(string(text[exponent:end]))
		if err != nil || n > maxDigits || n < -maxDigits {
			return end, outOfRange(text[i:end])
		}
		digits += max(n, -n)
	}
	if digits > maxDigits {
		return end, outOfRange(text[i:end])
	}
	return end, nil
}

func outOfRange(number []byte) *flaw {
	text := string(number)
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return &flaw{problem: "holds the number " + text + ", which is out of the range of PostgreSQL's numeric", want: "give it as a string"}
}

func isNumberByte(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDigits bounds a number of a payload, written out without an exponent. PostgreSQL's numeric ends at 131,072 digits before
// the point and 16,383 behind it.
const maxDigits = 16_000

// checkJSON tells what jsonb refuses: besides what is no JSON, text that is not UTF-8, escaped zero characters and halves of
// surrogate pairs, and numbers out of its range.
func checkJSON(text []byte) error {
	if len(text) == 0 {
		return errors.New("is empty, which is not JSON")
	}
	if !utf8.Valid(text) {
		return errors.New("is not valid UTF-8")
	}
	if !json.Valid(text) {
		return fmt.Errorf("is not JSON: %w", json.Unmarshal(text, new(json.RawMessage)))
	}
	for i := 0; i < len(text); {
		var err error
		switch c := text[i]; {
		case c == '"':
			i, err = checkString(text, i+1)
		case c == '-' || '0' <= c && c <= '9':
			i, err = checkNumber(text, i)
		default:
			i++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkString checks the string that begins at i, of valid JSON, and returns where it ends.
func checkString(text []byte, i int) (end int, err error) {
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
			return i, errors.New(`holds the escape \u0000, which PostgreSQL cannot store in jsonb: use Body`)
		case 0xDC00 <= unit && unit < 0xE000, 0xD800 <= unit && unit < 0xDC00 && !lowSurrogate(text[i+6:]):
			return i, fmt.Errorf("holds the escape %s, half a surrogate pair, which is not a character", text[i:i+6])
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
func checkNumber(text []byte, i int) (end int, err error) {
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
			return end, fmt.Errorf("holds the number %.40s, which is out of the range of PostgreSQL's numeric", text[i:end])
		}
		digits += max(n, -n)
	}
	if digits > maxDigits {
		return end, fmt.Errorf("holds the number %.40s…, which is out of the range of PostgreSQL's numeric", text[i:end])
	}
	return end, nil
}

func isNumberByte(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

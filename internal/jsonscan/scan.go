// Package jsonscan reads JSON that programs have written, several times as fast as encoding/json, which has to cope with all that there is:
// requests of workers and answers to them, of which there may be tens of thousands a second. What is out of the ordinary makes it give up
// (Scanner.Done); the caller then has encoding/json read the whole text, and say what is wrong with it.
//
//	s := jsonscan.Scanner{Text: text}
//	for s.Open('{'); s.Next('}'); {
//		switch s.Key() {
//		case "id":
//			id = s.Int()
//		default:
//			s.Raw()
//		}
//	}
//	if !s.Done() { … }
//
// Strings that it returns are parts of the text, unless they have escapes.
package jsonscan

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Scanner reads a text from its begin on. After something that it does not understand it reads nothing more.
type Scanner struct {
	Text string

	at    int
	first bool // nothing of the object or list that was just opened has been read
	bad   bool
}

// Done says whether all of the text was read, and understood.
func (s *Scanner) Done() bool {
	s.blanks()
	return !s.bad && s.at == len(s.Text)
}

// GiveUp makes Done return false: a caller has met what it does not know.
func (s *Scanner) GiveUp() { s.bad = true }

// Open reads the begin of an object ('{') or a list ('[').
func (s *Scanner) Open(bracket byte) {
	s.blanks()
	s.expect(bracket)
	s.first = true
}

// Next says whether there is one more element, and else reads the end of the object ('}') or list (']').
func (s *Scanner) Next(bracket byte) bool {
	s.blanks()
	first := s.first
	s.first = false
	switch {
	case s.bad || s.at >= len(s.Text):
		s.bad = true
		return false
	case s.Text[s.at] == bracket:
		s.at++
		return false
	case first:
		return true
	}
	s.expect(',')
	return !s.bad
}

// Key reads a member's name and the colon.
func (s *Scanner) Key() string {
	key := s.String()
	s.blanks()
	s.expect(':')
	return key
}

// String reads a string.
func (s *Scanner) String() string {
	s.blanks()
	begin := s.at
	if !s.skipString() {
		return ""
	}
	text := s.Text[begin+1 : s.at-1]
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '\\' {
			var unescaped string
			s.bad = json.Unmarshal([]byte(s.Text[begin:s.at]), &unescaped) != nil
			return unescaped
		}
	}
	return text
}

// Int reads a whole number.
func (s *Scanner) Int() int64 {
	word := s.Raw()
	digits := strings.TrimPrefix(word, "-")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || digits[0] == '+' || digits[0] == '0' && len(digits) > 1 {
		s.bad = true
		return 0
	}
	return n
}

// Bool reads true or false.
func (s *Scanner) Bool() bool {
	switch s.Raw() {
	case "true":
		return true
	case "false":
	default:
		s.bad = true
	}
	return false
}

// Raw reads a value of any kind and returns its text. It does not look for all that may be wrong in it.
func (s *Scanner) Raw() string {
	s.blanks()
	begin := s.at
	for depth := 0; s.at < len(s.Text); {
		switch s.Text[s.at] {
		case '"':
			if !s.skipString() {
				return ""
			}
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 { // there is no value
				s.bad = true
				return ""
			}
			s.at++
			continue
		default:
			s.skipWord()
		}
		if depth == 0 && s.at > begin {
			return s.Text[begin:s.at]
		}
		if depth < 0 {
			break
		}
	}
	s.bad = true
	return ""
}

// skipWord reads a number, true, false or null.
func (s *Scanner) skipWord() {
	for s.at < len(s.Text) && strings.IndexByte(",:]} \t\n\r", s.Text[s.at]) < 0 {
		s.at++
	}
}

// skipString reads a string, and says whether there is one.
func (s *Scanner) skipString() bool {
	if s.expect('"'); s.bad {
		return false
	}
	for {
		end := strings.IndexByte(s.Text[s.at:], '"')
		if end < 0 {
			s.bad = true
			return false
		}
		s.at += end + 1
		slashes := 0
		for s.Text[s.at-2-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return true
		}
	}
}

func (s *Scanner) expect(c byte) {
	if s.bad || s.at >= len(s.Text) || s.Text[s.at] != c {
		s.bad = true
		return
	}
	s.at++
}

func (s *Scanner) blanks() {
	for s.at < len(s.Text) && (s.Text[s.at] == ' ' || s.Text[s.at] == '\n' || s.Text[s.at] == '\t' || s.Text[s.at] == '\r') {
		s.at++
	}
}

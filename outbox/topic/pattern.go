package topic

import "strings"

// ValidatePattern returns nil if p is a pattern as in NATS: a topic in which '*' may stand in place of a token and '>' in
// place of the last one, where it matches one or more. In front neither matches a token that begins with '$': the topics of
// Postrider's own events do, and are named, as in $postrider.dead.>. Otherwise it returns an *InvalidError.
func ValidatePattern(p string) error {
	switch {
	case p == "":
		return invalid(patternRule, "pattern is empty")
	case len(p) > MaxLen:
		return tooLong("pattern", p)
	case p[0] == '$' && !strings.HasPrefix(p, own):
		return invalid(patternRule, "pattern %q begins with '$', as no topic does but those of Postrider's events, $postrider.>", p)
	}
	for start := 0; ; {
		end := tokenEnd(p, start)
		if err := validatePatternToken(p, start, end); err != nil {
			return err
		}
		if end == len(p) {
			return nil
		}
		start = end + 1
	}
}

func validatePatternToken(p string, start, end int) error {
	token := p[start:end]
	switch {
	case token == "":
		return invalid(patternRule, "pattern %q has an empty token at byte %d", p, start+1)
	case token == "*", token == ">" && end == len(p):
		return nil
	case token == ">":
		return invalid(patternRule, "pattern %q has '>' before its last token", p)
	}
	if i := notPlain(token); i >= 0 {
		return badByte("pattern", p, start+i, patternRule)
	}
	return nil
}

// Regex returns the PostgreSQL regular expression that matches the topics that one of the patterns matches: the same text
// as postrider.topic_regex(patterns). Without patterns it matches no topic.
func Regex(patterns []string) string {
	var b strings.Builder
	b.WriteString("^(")
	for i, p := range patterns {
		if i > 0 {
			b.WriteByte('|')
		}
		switch {
		case p != "" && p[0] == '*':
			b.WriteString("[^.$][^.]*")
			p = p[1:]
		case p != "" && p[0] == '>':
			b.WriteString("[^$].*")
			p = p[1:]
		}
		for j := range len(p) {
			writeRegex(&b, p[j])
		}
	}
	b.WriteString(")$")
	return b.String()
}

// writeRegex writes the expression for one byte of a pattern.
func writeRegex(b *strings.Builder, c byte) {
	switch c {
	case '*':
		b.WriteString("[^.]+")
	case '>':
		b.WriteString(".+")
	case '\\', '^', '$', '|', '?', '+', '.', '(', ')', '{', '}', '[', ']':
		b.WriteByte('\\')
		b.WriteByte(c)
	default:
		b.WriteByte(c)
	}
}

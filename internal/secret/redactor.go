package secret

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
)

const (
	// Redacted stands in the place of a secret.
	Redacted = "[secret]"
	// leastSecret is the length from which on a value is recognized: shorter ones are parts of ordinary words.
	leastSecret = 4
	// armour marks texts such as PEM and NATS credentials: keys among words, of which only long ones are secrets.
	armour        = "-----BEGIN "
	leastArmoured = 32
	// maxLearned bounds what is remembered. The oldest are forgotten: those that were replaced long ago.
	maxLearned = 4_000
)

// Redactor takes secrets out of texts, in the forms in which endpoints echo them. The zero value knows none.
type Redactor struct {
	parent *Redactor // is told of all that is learned; nil for none

	mu       sync.Mutex
	learned  []string // oldest first
	known    map[string]bool
	replacer atomic.Pointer[replacer] // nil while there is news
}

type replacer struct {
	*strings.Replacer
	longest int // form, in bytes
}

// Learn remembers secrets. A text of several words is known by each of them, too, if they are long.
func (r *Redactor) Learn(values ...string) {
	if r.parent != nil {
		r.parent.Learn(values...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, value := range values {
		r.learn(strings.TrimSpace(value), leastSecret)
		least := 2 * leastSecret
		if strings.Contains(value, armour) {
			least = leastArmoured
		}
		for _, word := range strings.Fields(value) {
			r.learn(word, least)
		}
	}
}

func (r *Redactor) learn(value string, least int) {
	if len(value) < least || r.known[value] {
		return
	}
	if r.known == nil {
		r.known = make(map[string]bool)
	}
	if len(r.learned) == maxLearned {
		delete(r.known, r.learned[0])
		r.learned = r.learned[1:]
	}
	r.known[value] = true
	r.learned = append(r.learned, value)
	r.replacer.Store(nil)
}

// current makes the replacer anew after news: not with each of them, of which a start brings many.
func (r *Redactor) current() *replacer {
	if all := r.replacer.Load(); all != nil {
		return all
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, value := range r.learned {
		all = append(all, forms(value)...)
	}
	// Of two that begin at the same place the longer one counts.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	all = slices.Compact(all)
	pairs, longest := make([]string, 0, 2*len(all)), 0
	for _, form := range all {
		pairs = append(pairs, form, Redacted)
		longest = max(longest, len(form))
	}
	made := &replacer{strings.NewReplacer(pairs...), longest}
	r.replacer.Store(made)
	return made
}

// forms returns a secret as it is, and as JSON, HTML, URLs, headers and dumps write it.
func forms(value string) []string {
	plain := []byte(value)
	list := []string{value, html.EscapeString(value), url.QueryEscape(value), url.PathEscape(value), hex.EncodeToString(plain),
		strings.ToUpper(hex.EncodeToString(plain))}
	if quoted, err := json.Marshal(value); err == nil {
		list = append(list, strings.Trim(string(quoted), `"`))
	}
	for _, code := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		list = append(list, code.EncodeToString(plain))
	}
	list = append(list, lowerPercent(list[2]), lowerPercent(list[3]))
	slices.Sort(list)
	return slices.Compact(list)
}

// lowerPercent writes %2F as %2f.
func lowerPercent(text string) string {
	b := []byte(text)
	for i := range b {
		if i > 0 && b[i-1] == '%' || i > 1 && b[i-2] == '%' {
			b[i] = strings.ToLower(string(b[i]))[0]
		}
	}
	return string(b)
}

// Redact returns the text without the secrets.
func (r *Redactor) Redact(text string) string { return r.current().Replace(text) }

// Longest is how many bytes a secret may take in a text: who shows the first of a longer text has to read so many more, so that none
// is cut before it is recognized.
func (r *Redactor) Longest() int { return r.current().longest }

// RedactStart returns the first n bytes of a text, of which Longest more were read, without the secrets.
func (r *Redactor) RedactStart(text []byte, n int) []byte {
	clean := []byte(r.Redact(string(text)))
	return clean[:min(n, len(clean))]
}

// Clean returns the text without the secrets, and without characters that do not show but change what does.
func (r *Redactor) Clean(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.In(c, unicode.Cc, unicode.Cf) && c != '\n' && c != '\t' {
			return '.'
		}
		return c
	}, r.Redact(text))
}

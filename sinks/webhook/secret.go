package webhook

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/postrider/postrider/sinks"
)

const (
	hidden         = sinks.Redacted
	maxSecretBytes = 64 << 10
)

// secret is text that does not show: neither in an error or a log nor as JSON. The pointer keeps it out of sight where it
// is a field that is not exported, since fmt calls no methods there.
type secret struct{ text *string }

func newSecret(text string) secret { return secret{&text} }

// reveal returns the text itself.
func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format writes a placeholder, whatever the verb.
func (s secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String returns a placeholder.
func (s secret) String() string { return hidden }

// LogValue returns a placeholder.
func (s secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns a placeholder, for JSON among others.
func (s secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// reference says where a secret is: env:NAME or file:/path.
type reference struct{ kind, at string }

func (r reference) String() string { return r.kind + ":" + r.at }

// isReference tells a reference from a literal.
func isReference(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// parseReference reads the reference in a setting. It never shows what it cannot read, which may be a secret.
func parseReference(setting, text string) (reference, error) {
	kind, at, _ := strings.Cut(text, ":")
	switch {
	case !isReference(text):
		return reference{}, fmt.Errorf("%s holds something else than a reference: it must look like env:NAME or file:/path, "+
			"because settings are no place for secrets", setting)
	case kind == "env" && !isVariable(at):
		return reference{}, fmt.Errorf("%s begins with env:, and the name of a variable (letters, digits and _) must follow", setting)
	case kind == "file":
		at = strings.TrimPrefix(at, "//") // file:///path
		if !filepath.IsAbs(at) {
			return reference{}, fmt.Errorf("%s begins with file:, and an absolute path must follow, as in file:/run/secrets/billing", setting)
		}
	}
	return reference{kind, at}, nil
}

// isVariable also refuses what is a secret in the place of its name, as Standard Webhooks writes them.
func isVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'; !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && !strings.HasPrefix(name, "whsec_") && !strings.HasPrefix(name, "whsk_")
}

// read fetches the secret, without the line end that a file has behind its last line. Errors name the reference. Where
// what it leads to is not here, they wrap fs.ErrNotExist.
func (r reference) read(from *sinks.Secrets) (secret, error) {
	if r.kind == "env" {
		text, err := from.Variable(r.at)
		if err != nil {
			return secret{}, err
		}
		return nonEmpty(from, r, text)
	}
	text, err := from.File(r.at, maxSecretBytes)
	if err != nil {
		return secret{}, err
	}
	return nonEmpty(from, r, string(text))
}

func nonEmpty(from *sinks.Secrets, r reference, text string) (secret, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return secret{}, errors.New(r.at + " is empty")
	}
	from.Learn(text)
	return newSecret(text), nil
}

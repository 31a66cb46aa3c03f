package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Text is text that does not show: neither in an error or a log nor as JSON. The pointer keeps it out of sight where it
// is a field that is not exported, since fmt calls no methods there.
type Text struct{ text *string }

// NewText returns a secret of which nothing prints the text.
func NewText(text string) Text { return Text{&text} }

// Reveal returns the text itself.
func (s Text) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format writes a placeholder, whatever the verb.
func (s Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// String returns a placeholder.
func (s Text) String() string { return Redacted }

// LogValue returns a placeholder.
func (s Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns a placeholder, for JSON among others.
func (s Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

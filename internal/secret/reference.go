package secret

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// maxBytes bounds a secret in a file.
const maxBytes = 64 << 10

// Reference says where a secret is: env:NAME or file:/path.
type Reference struct{ kind, at string }

// InFile says whether what it leads to may change.
func (r Reference) InFile() bool { return r.kind == "file" }

// String returns the reference as it was written, which shows no secret.
func (r Reference) String() string { return r.kind + ":" + r.at }

// IsReference tells a reference from a literal.
func IsReference(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// ParseReference reads the reference in a setting. It never shows what it cannot read, which may be a secret.
func ParseReference(setting, text string) (Reference, error) {
	kind, at, _ := strings.Cut(text, ":")
	switch {
	case !IsReference(text):
		return Reference{}, fmt.Errorf("%s holds something else than a reference: it must look like env:NAME or file:/path, "+
			"because settings are no place for secrets", setting)
	case kind == "env" && !isVariable(at):
		return Reference{}, fmt.Errorf("%s begins with env:, and the name of a variable (letters, digits and _) must follow", setting)
	case kind == "file":
		at = strings.TrimPrefix(at, "//") // file:///path
		if !filepath.IsAbs(at) {
			return Reference{}, fmt.Errorf("%s begins with file:, and an absolute path must follow, as in file:/run/secrets/billing", setting)
		}
	}
	return Reference{kind, at}, nil
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

// Read fetches the secret, without the line end that a file has behind its last line. Errors name the reference. Where
// what it leads to is not here, they wrap fs.ErrNotExist.
func (r Reference) Read(from *Store) (Text, error) {
	if r.kind == "env" {
		text, err := from.Variable(r.at)
		if err != nil {
			return Text{}, err
		}
		return nonEmpty(from, r, text)
	}
	text, err := from.File(r.at, maxBytes)
	if err != nil {
		return Text{}, err
	}
	return nonEmpty(from, r, string(text))
}

func nonEmpty(from *Store, r Reference, text string) (Text, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return Text{}, errors.New(r.at + " is empty")
	}
	from.Learn(text)
	return NewText(text), nil
}

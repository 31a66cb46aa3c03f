package access

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/postrider/postrider/internal/secret"
)

// Token says who has a role, and where the secret is that proves it.
type Token struct {
	Identity
	Ref string // env:NAME or file:/path
}

// String is the token as it was written.
func (t Token) String() string {
	workFor := ""
	if t.Subscriptions != nil {
		workFor = "[" + strings.Join(t.Subscriptions, " ") + "]"
	}
	return fmt.Sprintf("%s:%s%s=%s", t.Name, t.Role, workFor, t.Ref)
}

var tokenForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,62}):([a-z]+)(?:\[([^\]]*)\])?=(.*)$`)

const tokenExample = "ops:operator=env:POSTRIDER_SECRET_OPS, mailer:worker[mail sms]=file:/run/secrets/mailer"

// ParseTokens reads a list of tokens, NAME:ROLE=REFERENCE separated by commas. A worker's subscriptions may follow its role in brackets.
// An error never shows what should have been a reference.
func ParseTokens(text string) (list []Token, err error) {
	names := map[string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		t, err := parseToken(item)
		if err != nil {
			return nil, fmt.Errorf("token %d: %w", len(list)+1, err)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("token %d: another token is named %q, too: each must have a name of its own", len(list)+1, t.Name)
		}
		names[t.Name] = true
		list = append(list, t)
	}
	return list, nil
}

func parseToken(item string) (t Token, err error) {
	parts := tokenForm.FindStringSubmatch(item)
	if parts == nil {
		return t, errors.New("must look like NAME:ROLE=REFERENCE, as in " + tokenExample)
	}
	t.Name, t.Ref = parts[1], parts[4]
	if t.Role, err = parseRole(parts[2]); err != nil {
		return t, fmt.Errorf("%s: %w", t.Name, err)
	}
	if strings.Contains(item[:len(item)-len(t.Ref)], "[") {
		t.Subscriptions = strings.Fields(parts[3])
		if t.Role != Worker || len(t.Subscriptions) == 0 {
			return t, fmt.Errorf("%s: brackets hold the subscriptions of a worker, as in mailer:worker[mail sms]=env:MAILER_TOKEN", t.Name)
		}
	}
	_, err = secret.ParseReference("the reference of "+t.Name, t.Ref)
	return t, err
}

// shortest is how many bytes a token must have: less can be guessed.
const shortest = 16

// parseSecret returns the sum of a token, which is all that is kept of it.
func parseSecret(text secret.Text) ([sha256.Size]byte, error) {
	token := text.Reveal()
	if len(token) < shortest || len(token) > 512 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return [sha256.Size]byte{}, fmt.Errorf("a token must have %d to 512 characters of printable ASCII and no blanks, such as what `openssl rand -hex 32` prints", shortest)
	}
	return sha256.Sum256([]byte(token)), nil
}

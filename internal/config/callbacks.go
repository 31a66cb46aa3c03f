package config

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/internal/callback"
	"github.com/postrider/postrider/internal/destination"
)

// Callbacks are the settings of callbacks of asynchronous webhooks.
type Callbacks struct {
	CallbackURL     Text          `split_words:"true" show:"url" desc:"Public address under which receivers reach POSTRIDER_CALLBACK_ADDR of any relay, such as https://hooks.shop.example/postrider. With it, asynchronous webhooks carry signed callback URLs."`
	CallbackAddr    Text          `split_words:"true" desc:"Where callbacks of asynchronous webhooks are received, such as 0.0.0.0:8481; empty or off: nowhere."`
	CallbackSecrets referenceList `split_words:"true" desc:"References (env:NAME or file:/path) to the secrets that sign callback URLs, separated by commas: the first signs, all verify. The same for all relays of a database; at least 32 bytes each."`
}

// referenceList is a list of references to secrets, separated by commas.
type referenceList []string

// Decode splits at commas; blanks around a reference and empty items are dropped. What is no reference is found later.
func (l *referenceList) Decode(text string) error { return (*topicList)(l).Decode(text) }

// String hides what should have been a reference and is not.
func (l referenceList) String() string {
	var texts []string
	for _, ref := range l {
		texts = append(texts, fmt.Sprint(destination.RedactReferences(ref)))
	}
	return strings.Join(texts, ",")
}

// ReceivesCallbacks says whether this relay listens for callbacks.
func (s *Settings) ReceivesCallbacks() bool { return s.CallbackAddr != "" && s.CallbackAddr != "off" }

// checkCallbacks says which setting of callbacks is wrong or missing. It follows no reference: most commands need none.
func (s *Settings) checkCallbacks() error {
	if err := (callback.Config{BaseURL: string(s.CallbackURL)}).Validate(); err != nil {
		return fmt.Errorf("POSTRIDER_CALLBACK_URL=%s: %w", destination.Redact(string(s.CallbackURL)), err)
	}
	if err := (callback.Config{Secrets: s.CallbackSecrets}).Validate(); err != nil {
		return fmt.Errorf("POSTRIDER_CALLBACK_SECRETS: %w", err)
	}
	const needed = "needs POSTRIDER_CALLBACK_SECRETS, the secrets that sign the URLs, such as file:/run/callbacks"
	switch {
	case len(s.CallbackSecrets) > 0:
	case s.CallbackURL != "":
		return fmt.Errorf("POSTRIDER_CALLBACK_URL=%s: %s", s.CallbackURL, needed)
	case s.ReceivesCallbacks():
		return fmt.Errorf("POSTRIDER_CALLBACK_ADDR=%s: %s", s.CallbackAddr, needed)
	}
	if s.ReceivesCallbacks() && string(s.CallbackAddr) == string(s.HTTPAddr) && !strings.HasSuffix(string(s.HTTPAddr), ":0") {
		return fmt.Errorf("POSTRIDER_CALLBACK_ADDR=%s: must be another address than POSTRIDER_HTTP_ADDR, which is not for the public", s.CallbackAddr)
	}
	return nil
}

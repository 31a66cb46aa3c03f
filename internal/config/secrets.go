package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/relay/subscription"
)

// Secrets returns the rules for what subscriptions may refer to. What signs callbacks is none of their business.
func (s *Settings) Secrets() *secret.Store {
	except := slices.Clone([]string(s.CallbackSecrets))
	for _, t := range s.APITokens.Tokens {
		except = append(except, t.Ref)
	}
	return &secret.Store{Dir: string(s.SecretsDir), Variables: s.SecretsAllow, Except: except}
}

// checkSecrets says which setting of secrets is wrong.
func (s *Settings) checkSecrets() error {
	if s.SecretsDir == "" {
		return nil
	}
	info, err := os.Stat(string(s.SecretsDir))
	switch {
	case !filepath.IsAbs(string(s.SecretsDir)):
		return fmt.Errorf("POSTRIDER_SECRETS_DIR=%s: must be an absolute path, such as /run/secrets", s.SecretsDir)
	case filepath.Clean(string(s.SecretsDir)) == "/":
		return errors.New("POSTRIDER_SECRETS_DIR=/: must be a directory of secrets alone: who may write subscriptions may send all that is in it anywhere")
	case err == nil && !info.IsDir():
		return fmt.Errorf("POSTRIDER_SECRETS_DIR=%s: must be a directory", s.SecretsDir)
	}
	return nil
}

// variableList is a list of names of environment variables, separated by commas.
type variableList []string

// Decode splits at commas; blanks around a name and empty items are dropped.
func (l *variableList) Decode(text string) error {
	if err := (*topicList)(l).Decode(text); err != nil {
		return err
	}
	for _, name := range *l {
		if strings.HasPrefix(name, "POSTRIDER_") || strings.HasPrefix(name, "PG") {
			return fmt.Errorf("%s is a setting of the relay itself: subscriptions must not read it", name)
		}
	}
	return nil
}

// String is the list with commas.
func (l variableList) String() string { return strings.Join(l, ",") }

// checkSink says what is wrong with a subscription's sink and options, as far as that can be said without connecting. Its
// errors show no secret, but whether there is one: they are for who starts this process.
func (s *Settings) checkSink(sub subscription.Subscription) error {
	return destination.InFull(destination.Check(sub, s.Secrets()))
}

// SecretsNotes names what a file's subscriptions refer to and is not here: as relays on other machines may have it, that is no error.
func (s *Settings) SecretsNotes(specs []subscription.Spec) []string {
	var notes []string
	for _, sub := range specs {
		err := destination.Check(sub.Subscription, s.Secrets())
		if hidden, ok := errors.AsType[*secret.HiddenError](err); ok {
			notes = append(notes, fmt.Sprintf("%s: %s: here, %s. Relays that lack it leave %[1]s to others", sub.Name, hidden.Setting, strings.TrimPrefix(hidden.Detail(), hidden.Setting+": ")))
		}
	}
	return notes
}

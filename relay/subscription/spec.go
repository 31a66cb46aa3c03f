package subscription

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/postrider/postrider/outbox/topic"
)

// Spec is a subscription as a file, the environment or a caller asks for it.
type Spec struct {
	Subscription
	// Start is where it begins when it is created: now, earliest or a time as in RFC 3339.
	Start string
	// Unnamed says that it has the default name, which nobody has chosen.
	Unnamed bool
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// CheckName says what is wrong with a name.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name %q: must be 1 to 63 lower-case letters, digits, '-' and '_', the first a letter or a digit", name)
	}
	return nil
}

// CheckTopics says what is wrong with patterns: all of it, a line each.
func CheckTopics(topics []string) error {
	if len(topics) == 0 {
		return errors.New("no topics: at least one pattern is needed, such as orders.> (or > for all)")
	}
	var errs []error
	for _, pattern := range topics {
		if err := topic.ValidatePattern(pattern); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// CheckStart says what is wrong with where a subscription is to begin.
func CheckStart(start string) error {
	if start == "now" || start == "earliest" {
		return nil
	}
	if _, err := time.Parse(time.RFC3339, start); err != nil {
		return fmt.Errorf("start %q: must be now, earliest or a time such as 2026-01-31T12:00:00Z", start)
	}
	return nil
}

package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/cron"
)

// The defaults of what a spec does not say.
const (
	defaultZone     = "UTC"
	defaultMissed   = "last"
	defaultPriority = 2
)

// Spec is a schedule as somebody wants it.
type Spec struct {
	Name, Cron, Zone, Topic, Missed string
	Key                             *string
	Payload                         json.RawMessage
	Headers                         map[string]string
	Priority                        int
}

// NewSpec has the defaults.
func NewSpec() Spec {
	return Spec{Zone: defaultZone, Missed: defaultMissed, Priority: defaultPriority, Payload: json.RawMessage("{}")}
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Check says what is wrong with one field of it, by its name in files.
func (s Spec) Check(field string) error {
	switch field {
	case "name":
		if !validName.MatchString(s.Name) {
			return fmt.Errorf("name %q: must be 1 to 63 lower-case letters, digits, '-' and '_', the first a letter or a digit", s.Name)
		}
	case "cron":
		_, err := cron.Parse(s.Cron)
		return err
	case "zone":
		_, err := cron.Zone(s.Zone)
		return err
	case "topic":
		return topic.Validate(s.Topic)
	case "missed":
		return checkMissed(s.Missed)
	case "priority":
		if s.Priority < 1 || s.Priority > 4 {
			return fmt.Errorf("priority %d: must be from 1 (first) to 4 (last); %d is the default", s.Priority, defaultPriority)
		}
	case "headers":
		return s.checkHeaders()
	}
	return nil
}

func (s Spec) checkHeaders() error {
	for name := range s.Headers {
		if l := strings.ToLower(name); l == "schedule" || l == "planned" {
			return errors.New("headers: schedule and planned are set by Postrider, rename them")
		}
	}
	return nil
}

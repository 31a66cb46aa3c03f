package subscription

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as in "1m30s".
type Duration time.Duration

// String writes it as in "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes it as in "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: must be a number with a unit, such as 30s or 5m", text)
	}
	*d = Duration(v)
	return nil
}

// ParseDuration reads what a person has written: like UnmarshalText, with blanks around it, and not negative.
func ParseDuration(text string) (Duration, error) {
	v, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0, errors.New("must be a number with a unit, such as 500ms, 30s or 24h, and less than 2562047h")
	}
	if v < 0 {
		return 0, errors.New("must not be negative")
	}
	return Duration(v), nil
}

package sinks

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as in "1m30s".
type Duration time.Duration

// MarshalText writes it as in "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: must be a number with a unit, such as 30s or 5m", text)
	}
	*d = Duration(v)
	return nil
}

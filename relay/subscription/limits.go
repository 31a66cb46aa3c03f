package subscription

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/expression"
)

// Limits bound what is delivered at once and in a time. Zero values do not.
type Limits struct {
	Limit
	Per PerLimits `json:"per,omitzero"` // for each value by itself
}

// Limit is one bound.
type Limit struct {
	InFlight int  `json:"in_flight,omitzero"` // deliveries under way at once
	Rate     Rate `json:"rate,omitzero"`      // deliveries that begin
}

// PerLimits bound the messages of each value of something that they have.
type PerLimits struct {
	By string `json:"by"` // key, header:NAME, or cel: and an expression
	Limit
}

// Header is the name of the header by whose values messages are told apart, "" if it is the key.
func (p PerLimits) Header() string {
	name, _ := strings.CutPrefix(p.By, headerPrefix)
	if name == p.By {
		return ""
	}
	return name
}

// Expression is the expression in CEL by whose values messages are told apart, "" if they are not told apart by one.
func (p PerLimits) Expression() string {
	if text, ok := strings.CutPrefix(p.By, celPrefix); ok {
		return text
	}
	return ""
}

const (
	celPrefix    = "cel:"
	byKey        = "key"
	headerPrefix = "header:"
	mostLimit    = 1_000_000
)

// Rate is how many in a time, written as in 100/s.
type Rate struct {
	Count int
	Per   time.Duration
}

var rateUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// String writes it as in 100/s.
func (r Rate) String() string {
	for unit, per := range rateUnits {
		if per == r.Per {
			return strconv.Itoa(r.Count) + "/" + unit
		}
	}
	return ""
}

// MarshalText writes it as in 100/s.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a number from 1 on, a slash, and s, m or h for second, minute and hour.
func (r *Rate) UnmarshalText(text []byte) error {
	count, unit, _ := strings.Cut(strings.TrimSpace(string(text)), "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	per, known := rateUnits[strings.TrimSpace(unit)]
	if err != nil || !known || n < 1 || n > mostLimit {
		return fmt.Errorf("rate %q: must be a whole number from 1 to %d and a unit of time, such as 100/s, 30/m or 500/h", text, mostLimit)
	}
	*r = Rate{n, per}
	return nil
}

// limitsOf is the setting of limits.
func limitsOf(name string, at func(*Settings) *Limits, help string) *Field {
	f := comparableMember(name, help, at, Limits{})
	f.Shape = Table
	decode := f.decode
	f.decode = func(s *Settings, raw json.RawMessage) []strict.Problem {
		*at(s) = Limits{} // not what an earlier text has said
		return decode(s, raw)
	}
	f.Read = func(text string) (json.RawMessage, error) {
		return readObject(text, `{"in_flight": 50, "rate": "100/s", "per": {"by": "key", "rate": "5/s"}}`)
	}
	f.check = func(s *Settings) error {
		if err := at(s).check(); err != nil {
			return fmt.Errorf("%s.%w", name, err)
		}
		return nil
	}
	return f
}

func (l Limits) check() error {
	if err := l.Limit.check(); err != nil {
		return err
	}
	if l.Per == (PerLimits{}) {
		return nil
	}
	if err := l.Per.Limit.check(); err != nil {
		return fmt.Errorf("per.%w", err)
	}
	if err := l.Per.checkBy(); err != nil {
		return err
	}
	if l.Per.Limit == (Limit{}) {
		return errors.New("per: must have in_flight, rate or both: it limits nothing")
	}
	return nil
}

func (p PerLimits) checkBy() error {
	if strings.HasPrefix(p.By, celPrefix) {
		if _, err := expression.Name(p.Expression()); err != nil {
			return fmt.Errorf("per.by cel: %w", err)
		}
		return nil
	}
	if p.By != byKey && p.Header() == "" {
		return fmt.Errorf("per.by %q: must be key, header:NAME, such as header:tenant, or cel: and an expression, such as cel:payload.customer", p.By)
	}
	return nil
}

func (l Limit) check() error {
	if l.InFlight < 0 || l.InFlight > mostLimit {
		return fmt.Errorf("in_flight %d: must be from 1 to %d", l.InFlight, mostLimit)
	}
	return nil
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/subscription"
)

// duration is a time.Duration that is not negative.
type duration time.Duration

// Decode reads "1m30s".
func (d *duration) Decode(text string) error {
	v, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return errors.New("must be a number with a unit, such as 500ms, 30s or 24h, and less than 2562047h")
	}
	if v < 0 {
		return errors.New("must not be negative")
	}
	*d = duration(v)
	return nil
}

func (d duration) String() string { return human.Short(time.Duration(d)) }

// OrTiny is for settings where nothing at all is a sensible value, while the relay takes zero for "not set".
func (d duration) OrTiny() time.Duration { return max(time.Duration(d), 1) }

// count is a positive whole number.
type count int

// Decode reads decimal digits.
func (c *count) Decode(text string) error {
	v, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || v < 1 {
		return errors.New("must be a whole number, at least 1")
	}
	*c = count(v)
	return nil
}

// ByteSize is a number of bytes, written with or without a unit.
type ByteSize int64

// Decode reads "64MiB", "1GB" or "67108864".
func (b *ByteSize) Decode(text string) error {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range human.ByteUnits {
		if n := len(number) - len(u.Name); n > 0 && strings.EqualFold(number[n:], u.Name) {
			number, unit = strings.TrimSpace(number[:n]), u.Bytes
			break
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64/unit {
		return errors.New("must be a number of bytes, such as 67108864, 64MiB or 1GB")
	}
	*b = ByteSize(v * unit)
	return nil
}

func (b ByteSize) String() string {
	return human.Size(int64(b))
}

// messageSize is a size that postrider.set_max_message takes; 0 is none.
type messageSize ByteSize

// Decode reads what byteSize does, within bounds.
func (m *messageSize) Decode(text string) error {
	const least, most = 64 << 10, 256 << 20
	if err := (*ByteSize)(m).Decode(text); err != nil {
		return err
	}
	if *m < least || *m > most {
		return fmt.Errorf("must be from %s to %s", ByteSize(least), ByteSize(most))
	}
	return nil
}

func (m messageSize) String() string {
	if m == 0 {
		return ""
	}
	return ByteSize(m).String()
}

// topicList is a list of topic patterns, separated by commas. Patterns hold no commas.
type topicList []string

// Decode splits at commas; blanks around a pattern and empty items are dropped.
func (l *topicList) Decode(text string) error {
	*l = nil
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

func (l topicList) String() string { return strings.Join(l, ",") }

// durationList is a list of waits, separated by commas.
type durationList []subscription.Duration

// Decode reads "5s,5m,30m"; blanks around a wait are dropped.
func (l *durationList) Decode(text string) error {
	*l = nil
	for item := range strings.SplitSeq(text, ",") {
		var d duration
		if err := d.Decode(item); err != nil {
			return fmt.Errorf("each of the list %w", err)
		}
		*l = append(*l, subscription.Duration(d))
	}
	return nil
}

func (l durationList) String() string {
	var texts []string
	for _, d := range l {
		texts = append(texts, human.Short(time.Duration(d)))
	}
	return strings.Join(texts, ",")
}

// object is a JSON object as text.
type object json.RawMessage

// Decode takes an object with or without blanks.
func (o *object) Decode(text string) error {
	var compact bytes.Buffer
	const object = `must be a JSON object, such as {"rate": 10}`
	if err := json.Compact(&compact, []byte(text)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("%s; it is no JSON: %s at byte %d", object, err, syntax.Offset)
		}
		return errors.New(object)
	}
	if compact.Bytes()[0] != '{' {
		return errors.New(object)
	}
	*o = compact.Bytes()
	return nil
}

func (o object) String() string { return destination.RedactOptions([]byte(o)) }

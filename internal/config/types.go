package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/subscription"
)

// blank says that a variable is set to nothing: it counts as not set, and Decode leaves what it has.
func blank(text string) bool { return strings.TrimSpace(text) == "" }

// Text is a text.
type Text string

// Decode takes it as it is.
func (t *Text) Decode(text string) error {
	if !blank(text) {
		*t = Text(text)
	}
	return nil
}

// Address is where to listen. Nothing means something here: nowhere.
type Address string

// Decode takes it as it is, also nothing.
func (a *Address) Decode(text string) error {
	*a = Address(text)
	return nil
}

// flag is true or false.
type flag bool

// Decode reads what strconv.ParseBool reads.
func (f *flag) Decode(text string) error {
	if blank(text) {
		return nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("must be true or false")
	}
	*f = flag(v)
	return nil
}

// level is how much is logged.
type level slog.Level

// Decode reads "info".
func (l *level) Decode(text string) error {
	if blank(text) {
		return nil
	}
	if (*slog.Level)(l).UnmarshalText([]byte(text)) != nil {
		return errors.New("must be debug, info, warn or error")
	}
	return nil
}

func (l level) String() string { return slog.Level(l).String() }

// outside compares with bounds that are written like values.
func outside[T ~int64](is T, decode func(*T, string) error, least, most string) string {
	var low, high T
	if err := errors.Join(decode(&low, least), decode(&high, most)); err != nil {
		panic(err) // a tag is wrong
	}
	switch {
	case least != "" && is < low:
		return "must be at least " + least
	case most != "" && is > high:
		return "must be at most " + most
	}
	return ""
}

// duration is a time.Duration that is not negative.
type duration time.Duration

// Decode reads "1m30s".
func (d *duration) Decode(text string) error {
	if blank(text) {
		return nil
	}
	v, err := subscription.ParseDuration(text)
	if err == nil {
		*d = duration(v)
	}
	return err
}

func (d duration) outside(least, most string) string {
	return outside(d, (*duration).Decode, least, most)
}

func (d duration) String() string { return human.Short(time.Duration(d)) }

// OrTiny is for settings where nothing at all is a sensible value, while the relay takes zero for "not set".
func (d duration) OrTiny() time.Duration { return max(time.Duration(d), 1) }

// ByteSize is a number of bytes, written with or without a unit.
type ByteSize int64

// Decode reads "64MiB", "1GB" or "67108864".
func (b *ByteSize) Decode(text string) error {
	if blank(text) {
		return nil
	}
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

func (b ByteSize) outside(least, most string) string {
	return outside(b, (*ByteSize).Decode, least, most)
}

func (b ByteSize) String() string {
	return human.Size(int64(b))
}

// messageSize is a size that postrider.set_max_message takes; 0 is none.
type messageSize ByteSize

// Decode reads what byteSize does, within bounds.
func (m *messageSize) Decode(text string) error {
	const least, most = 64 << 10, 256 << 20
	if blank(text) {
		return nil
	}
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
	if blank(text) {
		return nil
	}
	*l = nil
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

func (l topicList) String() string { return strings.Join(l, ",") }

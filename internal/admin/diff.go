package admin

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

// difference is one field of a subscription as it is and as it is to be; secrets do not show.
type difference struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// String writes it for a person.
func (d difference) String() string {
	if d.From == d.To { // both are secrets
		return d.Field + ": another value, which is not shown"
	}
	return d.Field + ": " + d.From + " → " + d.To
}

// field is a value, and what may be shown of it. Two values may differ and show the same.
type field struct{ value, shown string }

// differences compares a subscription in the database with the spec, field by field. Defaults that are written out equal those
// that are not.
func differences(s subscription.Spec, topics []string, sink string, settings []byte) []difference {
	is := subscription.Subscription{Topics: topics, Sink: sink}
	var unreadable error
	is.Settings, unreadable = subscription.DecodeSettings(settings)
	same := unreadable == nil && sameSettings(s.Subscription, is)
	have, want := fields(is), fields(s.Subscription)
	var list []difference
	for _, name := range slices.SortedFunc(maps.Keys(merged(have, want)), byFieldOrder) {
		if isSetting(name) && same || have[name].value == want[name].value {
			continue
		}
		list = append(list, difference{name, cmp.Or(have[name].shown, "nothing"), cmp.Or(want[name].shown, "nothing")})
	}
	if unreadable != nil {
		list = append(list, difference{"settings", "what no relay can read", "what is asked for"})
	}
	return list
}

// sameSettings fills in the defaults on both sides: those of the kind of sink, then the engine's.
func sameSettings(want, is subscription.Subscription) bool {
	for _, s := range []*subscription.Subscription{&want, &is} {
		destination.Defaults(s)
		if s.Settings.Validate() != nil {
			return false
		}
		s.Settings = s.Settings.WithDefaults()
	}
	return want.Settings.Equal(is.Settings)
}

func isSetting(name string) bool { return name != "topics" && name != "sink" }

func merged(a, b map[string]field) map[string]field {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// byFieldOrder puts topics and sink before settings.
func byFieldOrder(a, b string) int {
	rank := func(name string) int { return slices.Index([]string{"topics", "sink", name}, name) }
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// fields lists what a subscription consists of, with the defaults of its kind of sink and of the engine filled in.
func fields(s subscription.Subscription) map[string]field {
	topics := strings.Join(slices.Compact(slices.Sorted(slices.Values(s.Topics))), " ")
	list := map[string]field{
		"topics": {topics, strings.Join(s.Topics, ", ")},
		"sink":   {s.Sink, destination.Redact(s.Sink)},
	}
	given := settingsOf(s.Settings)
	destination.Defaults(&s)
	s.Settings = s.Settings.WithDefaults()
	for name, value := range settingsOf(s.Settings) {
		if name == "options" {
			continue
		}
		text := string(value)
		shown := shownSetting(value)
		if given[name] == nil {
			shown += " (default)"
		}
		list[name] = field{text, shown}
	}
	options, shown := members(s.Settings.Options), members([]byte(destination.RedactOptions(s.Settings.Options)))
	for name, value := range options {
		list["options."+name] = field{normal(value), cmp.Or(string(shown[name]), destination.Hidden)}
	}
	return list
}

// shownSetting is a setting's value without quotes, but for those that are part of a text.
func shownSetting(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return strings.ReplaceAll(string(value), `"`, "")
}

func settingsOf(s subscription.Settings) map[string]json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		return nil // options that are no JSON: they are reported where they are checked
	}
	return members(text)
}

func members(object []byte) (all map[string]json.RawMessage) {
	_ = json.Unmarshal(object, &all)
	return all
}

// normal writes a value as the database would: blanks, the order of keys and 1.0 for 1 make no difference.
func normal(value json.RawMessage) string {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return string(value)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return string(value)
	}
	return string(text)
}

// groups are the columns that the differences are in: topics, sink, settings.
func groups(list []difference) (names []string) {
	for _, d := range list {
		name := d.Field
		if isSetting(name) {
			name = "settings"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

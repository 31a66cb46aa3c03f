package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/states"
)

// functions are what templates may call.
var functions = template.FuncMap{
	"asset":   asset,
	"number":  human.Number,
	"bytes":   human.Bytes,
	"plural":  human.Plural,
	"seconds": func(s float64) string { return human.Duration(human.Seconds(s)) },
	"took":    human.Duration,
	"clip":    clip,
	"line":    human.OneLine,
	"when":    when,
	"exact":   exact,
	"meaning": meaning,
	"more":    more,
	"lower":   strings.ToLower,
	"millis":  time.Duration.Milliseconds,
	"text":    textOf,
	"dict":    dict,
	"int64":   func(n int) int64 { return int64(n) },
	"status":  statusWord,
	"shownas": states.StatusOf,
	"names":   func() []string { return filterNames },
}

func clip(s string, n int) string { return human.Clip(s, n) }

// more is a number of which there may be more: 10,000+.
func more(n int64, more bool) string {
	if more {
		return human.Number(n) + "+"
	}
	return human.Number(n)
}

// textOf is a text that may be missing.
func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// when writes a time as how long ago it was, with the exact one as a title. Of times it takes also pointers; nothing for none.
func when(now time.Time, at any) template.HTML {
	var t time.Time
	switch at := at.(type) {
	case time.Time:
		t = at
	case *time.Time:
		if at != nil {
			t = *at
		}
	}
	if t.IsZero() {
		return ""
	}
	ago := human.Ago(now, t)
	if d := now.Sub(t); d < time.Second && d > -time.Second {
		ago = "now"
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, t.UTC().Format(time.RFC3339Nano), exact(t), ago)) // digits and letters of our own
}

func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

// meaning is what a state of a parked message is.
func meaning(state string) string { return states.Of(state).Meaning }

// dict is what a template hands on to another one: names and values in turn.
func dict(pairs ...any) (map[string]any, error) {
	all := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		all[name] = pairs[i+1]
	}
	return all, nil
}

// filterNames are the fields of the form that says which dead letters are meant.
var filterNames = []string{"subscription", "topic", "key", "failure", "since", "until"}

// statusWord is the status of a delivery as a word with its colour.
func statusWord(status *string) template.HTML {
	if status == nil {
		return ""
	}
	level := condition{Level: statusLevel(*status)}
	return template.HTML(fmt.Sprintf(`<span class="word %s">%s</span>`, level.Class(), template.HTMLEscapeString(*status)))
}

// statusLevel is how bad a status is by itself.
func statusLevel(status string) int {
	switch status {
	case "delivered", "pending":
		return good
	case states.Dead:
		return bad
	}
	return odd
}

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/subscription"
)

// Variable is one setting as the environment and the documentation know it.
type Variable struct {
	Name    string // of the environment variable
	Default string
	Help    string
	Value   string // without secrets; empty: not set

	value          any
	tags           reflect.StructTag
	ofSubscription bool
}

// read reads the environment into a struct of settings. What is set to nothing counts as not set, as Compose files and shell scripts mean
// it: Decode leaves a member as it is then, and the default is there before.
func read(into any) error {
	for _, name := range []string{noPrefix, prefix} {
		err := envconfig.Process(name, into)
		if e, ok := errors.AsType[*envconfig.ParseError](err); ok {
			return fmt.Errorf("%s=%s: %w", e.KeyName, e.Value, e.Err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noPrefix is one that no variable can have: with it, envconfig fills in the defaults.
const noPrefix = "\x00"

// readFields reads what subscription.Fields lists.
func readFields(s *subscription.Settings) error {
	for _, f := range subscription.Fields {
		text, ok := lookup(variableOf(f))
		if !ok {
			continue
		}
		raw, err := f.Read(text)
		if err == nil {
			err = f.Decode(s, raw)
		}
		switch {
		case err != nil && f.Shape == subscription.Object: // which may hold by mistake what nobody should see
			return fmt.Errorf("%s: %w", variableOf(f), err)
		case err != nil:
			return fmt.Errorf("%s=%s: %w", variableOf(f), text, err)
		}
	}
	return nil
}

func variableOf(f *subscription.Field) string { return prefix + "_" + strings.ToUpper(f.Name) }

// lookup returns a variable that is set to something.
func lookup(name string) (string, bool) {
	text, ok := os.LookupEnv(name)
	return text, ok && !blank(text)
}

// Variables lists all settings with their values.
func (s *Settings) Variables() []Variable { return variables(s, &s.OfSubscription) }

// variables lists the settings of a struct in its order, with what fields holds where it says so. envconfig knows which variable belongs
// to which member.
func variables(of any, fields *subscription.Settings) []Variable {
	var list []Variable
	add := func(name string, member reflect.Value, tags reflect.StructTag) string {
		v := Variable{Name: name, Default: tags.Get("default"), Help: tags.Get("desc"), value: member.Interface(), tags: tags, ofSubscription: tags.Get("of") != ""}
		v.Value = v.shown()
		list = append(list, v)
		if tags.Get("then") == "fields" {
			for _, f := range subscription.Fields {
				list = append(list, Variable{Name: variableOf(f), Help: f.Help, Value: shown(f, fields), ofSubscription: true})
			}
		}
		return ""
	}
	all := template.Must(template.New("").Funcs(template.FuncMap{"add": add}).Parse("{{range .}}{{add .Key .Field .Tags}}{{end}}"))
	if err := envconfig.Usaget(prefix, of, io.Discard, all); err != nil {
		panic(err) // the struct itself is wrong
	}
	return list
}

// redactions are what the tag show names.
var redactions = map[string]func(string) string{"": func(s string) string { return s }, "database": destination.RedactDatabase, "url": destination.Redact}

func (v Variable) shown() string {
	text := fmt.Sprint(v.value)
	if text == "0" || text == "0s" && v.Default == "" {
		return "" // not set
	}
	return redactions[v.tags.Get("show")](text)
}

// shown is a setting of a subscription as the environment has it.
func shown(f *subscription.Field, s *subscription.Settings) string {
	raw := f.JSON(s)
	switch {
	case raw == nil:
		return ""
	case f.Shape == subscription.Object:
		return destination.RedactOptions(raw)
	case f.Shape == subscription.List:
		var items []subscription.Duration
		_ = json.Unmarshal(raw, &items) // it was made from such a list
		var texts []string
		for _, d := range items {
			texts = append(texts, human.Short(time.Duration(d)))
		}
		return strings.Join(texts, ",")
	}
	text := strings.Trim(string(raw), `"`)
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return human.Short(d)
	}
	return text
}

// bounded is a value that the tags min and max may bound.
type bounded interface {
	// outside says which bound is passed, "" if none is; an empty one is none.
	outside(least, most string) string
}

// check holds the settings of a struct to the bounds and words in their tags.
func check(of any) error {
	for _, v := range variables(of, new(subscription.Settings)) {
		if b, ok := v.value.(bounded); ok {
			if text := b.outside(v.tags.Get("min"), v.tags.Get("max")); text != "" {
				return fmt.Errorf("%s=%v: %s", v.Name, v.value, text)
			}
		}
		if words := v.tags.Get("one"); words != "" && !slices.Contains(strings.Split(words, ", "), fmt.Sprint(v.value)) {
			return fmt.Errorf("%s=%v: must be one of %s", v.Name, v.value, words)
		}
	}
	return nil
}

// Markdown returns the table of docs/settings.md.
func Markdown() string { return markdown(new(Settings)) }

func markdown(of any) string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Meaning |\n|---|---|---|\n")
	for _, v := range variables(of, new(subscription.Settings)) {
		initial := v.Default
		if initial != "" {
			initial = "`" + initial + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, initial, strings.ReplaceAll(v.Help, "|", `\|`))
	}
	return b.String()
}

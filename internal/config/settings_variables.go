package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/kelseyhightower/envconfig"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/internal/strict"
)

// variable is one setting as the environment and the documentation know it.
type variable struct {
	Name, field, Initial, Description, minimum, maximum string
}

// Variables lists the settings in the order of the struct. envconfig says which variable belongs to which field.
func Variables() []variable {
	var list []variable
	names := strings.Fields(variableNames())
	for i, field := range reflect.VisibleFields(reflect.TypeFor[Settings]()) {
		list = append(list, variable{
			Name:        names[i],
			field:       field.Name,
			Initial:     field.Tag.Get("default"),
			Description: field.Tag.Get("desc"),
			minimum:     field.Tag.Get("min"),
			maximum:     field.Tag.Get("max"),
		})
	}
	return list
}

func variableNames() string {
	var b strings.Builder
	t := template.Must(template.New("").Parse("{{range .}}{{.Key}} {{end}}"))
	if err := envconfig.Usaget(prefix, &Settings{}, &b, t); err != nil {
		panic(err) // the struct itself is wrong
	}
	return b.String()
}

// Value returns the setting's value, without secrets.
func (v variable) Value(s *Settings) string {
	text := fmt.Sprint(reflect.ValueOf(s).Elem().FieldByName(v.field).Interface())
	switch {
	case v.field == "DatabaseURL":
		return destination.RedactDatabase(text)
	case v.field == "Sink" || v.field == "CallbackURL":
		return destination.Redact(text)
	case text == "0" || text == "0s" && v.Initial == "":
		return "" // not set
	}
	return text
}

func (v variable) checkBounds(s *Settings) error {
	is := reflect.ValueOf(s).Elem().FieldByName(v.field)
	if v.minimum != "" && is.Int() < v.decode(is.Type(), v.minimum) {
		return fmt.Errorf("%s=%v: must be at least %s", v.Name, is.Interface(), v.minimum)
	}
	if v.maximum != "" && is.Int() > v.decode(is.Type(), v.maximum) {
		return fmt.Errorf("%s=%v: must be at most %s", v.Name, is.Interface(), v.maximum)
	}
	return nil
}

// decode reads a bound as the setting itself is read.
func (v variable) decode(kind reflect.Type, text string) int64 {
	bound := reflect.New(kind)
	if err := bound.Interface().(envconfig.Decoder).Decode(text); err != nil {
		panic(err) // the tag is wrong
	}
	return bound.Elem().Int()
}

// injected matches what Kubernetes sets in every container when a service is named postrider.
var injected = regexp.MustCompile(`^POSTRIDER_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_.*)$`)

// unknownVariables returns the environment's variables with our prefix that no setting reads.
func unknownVariables(environ []string) []string {
	known := strings.Fields(variableNames())
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix+"_") && !strings.HasPrefix(name, secret.Prefix) && !slices.Contains(known, name) && !injected.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// Warnings names settings that are set and have no effect.
func (s *Settings) Warnings() []string {
	var texts []string
	known := strings.Fields(variableNames())
	for _, name := range unknownVariables(os.Environ()) {
		text := fmt.Sprintf("%s is not a setting and has no effect", name)
		if near := strict.Nearest(name, known); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		texts = append(texts, text)
	}
	if s.CallbackSecrets != nil && s.CallbackURL == "" && !s.ReceivesCallbacks() {
		texts = append(texts, "POSTRIDER_CALLBACK_SECRETS has no effect without POSTRIDER_CALLBACK_URL or POSTRIDER_CALLBACK_ADDR")
	}
	if s.Sink != "" || s.Topics != nil {
		return texts
	}
	for _, name := range []string{"SUBSCRIPTION", "START", "ORDERING", "ON_DEAD", "MAX_ATTEMPTS", "LANES", "BATCH", "TIMEOUT", "BACKOFF_INITIAL", "BACKOFF_MAX", "BACKOFF_SCHEDULE", "LINGER", "OPTIONS"} {
		if _, ok := os.LookupEnv(prefix + "_" + name); ok {
			texts = append(texts, fmt.Sprintf("%s_%s has no effect without %[1]s_SINK", prefix, name))
		}
	}
	return texts
}

// Markdown returns the table of the README.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Meaning |\n|---|---|---|\n")
	for _, v := range Variables() {
		initial := v.Initial
		if initial != "" {
			initial = "`" + initial + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, initial, strings.ReplaceAll(v.Description, "|", `\|`))
	}
	return b.String()
}

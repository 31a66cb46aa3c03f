package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// ReadFile returns the subscriptions of a YAML file, with their sinks checked by check. All its problems are reported at once,
// each with its line.
func ReadFile(path string, check func(subscription.Subscription) error) ([]subscription.Spec, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := newFileReader(check)
	specs := r.read(text)
	if err := r.report(path); err != nil {
		return nil, err
	}
	return specs, nil
}

// fileReader makes subscriptions of a document.
type fileReader struct {
	document
	check func(subscription.Subscription) error
	names map[string]int // the line of each name
}

func newFileReader(check func(subscription.Subscription) error) *fileReader {
	return &fileReader{document{anchors: anchors{}}, check, map[string]int{}}
}

// bareStdout is a sink that YAML takes for a key, since it ends with a colon. No quotes are needed for what can mean one thing only.
var bareStdout = regexp.MustCompile(`(?m)(\bsink:[ \t]+)stdout:([ \t]*(?:#.*)?\r?$|[ \t]*[,}])`)

func (r *fileReader) read(text []byte) (specs []subscription.Spec) {
	r.lists(bareStdout.ReplaceAll(text, []byte("$1'stdout:'$2")), "subscriptions", "", func(e entry) { specs = append(specs, r.subscriptions(e)...) })
	if len(specs) == 0 && len(r.problems) == 0 {
		r.problem(1, "no subscriptions: the file looks like\nsubscriptions:\n  - name: orders\n    topics: [orders.>]\n    sink: https://host/hook")
	}
	return specs
}

// known reports whether a key is one of the allowed ones, and says which are if it is not.
func (r *fileReader) known(e entry, allowed ...string) bool {
	if slices.Contains(allowed, e.key) {
		return true
	}
	r.problem(e.line, "%s", strict.Unknown(allowed, e.key))
	return false
}

func (r *fileReader) subscriptions(list entry) []subscription.Spec {
	items, ok := r.sequence(list.value, "subscriptions")
	if !ok {
		return nil
	}
	var specs []subscription.Spec
	for _, item := range items {
		if entries, ok := r.mapping(item, "a subscription"); ok {
			specs = append(specs, r.subscription(line(item), entries))
		}
	}
	return specs
}

func (r *fileReader) subscription(at int, entries []entry) subscription.Spec {
	s := subscription.Spec{Start: "now"}
	lines := map[string]int{}
	var options ast.Node
	keys := append([]string{"name", "topics", "sink", "start"}, subscription.Names()...)
	for _, e := range entries {
		if r.known(e, keys...) {
			lines[e.key] = e.line
			if e.key == "options" {
				options = e.value
			}
			if err := r.field(&s, e); err != nil {
				r.problem(r.lineWithin(e, err), "%s", err)
			}
		}
	}
	for _, key := range []string{"name", "topics", "sink"} {
		if lines[key] == 0 {
			r.problem(at, "a subscription without %s", key)
		}
	}
	r.destination(s.Subscription, lines, options)
	if err := s.Settings.Validate(); err != nil {
		r.problem(max(at, lines["backoff_max"]), "%s", err)
	}
	if first := r.names[s.Name]; first != 0 {
		r.problem(lines["name"], "the name %q is taken by the subscription in line %d", s.Name, first)
	} else if s.Name != "" {
		r.names[s.Name] = lines["name"]
	}
	return s
}

// lineWithin is where an entry is wrong: at the value that the error begins with, and in a text of several lines at that of the first
// problem of an expression.
func (r *fileReader) lineWithin(e entry, err error) int {
	problems, ok := errors.AsType[expression.CompileError](err)
	if !ok {
		return e.line
	}
	e = r.find(e, strings.Split(settingName.FindString(err.Error()), ".")[1:])
	text, block := r.anchors.resolve(e.value).(*ast.LiteralNode)
	if !block || !strings.HasPrefix(text.Start.Value, "|") { // what is folded has lost its lines
		return e.line
	}
	return text.Start.Position.Line + problems[0].Line
}

// settingName is how the error of a setting begins.
var settingName = regexp.MustCompile(`^[a-z0-9_.]+`)

// destination checks the sink when all is known that it is made of.
func (r *fileReader) destination(s subscription.Subscription, lines map[string]int, options ast.Node) {
	if s.Sink == "" {
		return
	}
	err := r.check(s)
	if err == nil {
		return
	}
	wrong, ok := errors.AsType[sinks.OptionsError](err)
	if !ok || options == nil {
		r.problem(lines["sink"], "%s", err)
		return
	}
	if list, ok := errors.AsType[strict.Problems](wrong); ok {
		for _, p := range list {
			r.problem(r.lineOf(options, lines["options"], p.Path), "options: %s", p)
		}
		return
	}
	first := optionName.FindString(strings.TrimPrefix(err.Error(), "options: "))
	r.problem(r.lineOf(options, lines["options"], []string{first}), "%s", err)
}

// optionName is how the error of an option that is wrong by itself begins.
var optionName = regexp.MustCompile(`^[a-z0-9_]+`)

// quoteHint is for who writes > without quotes, which begins a folded text in YAML.
const quoteHint = "a pattern that begins with > needs quotes: '>'"

// field reads one key of a subscription and checks its value.
func (r *fileReader) field(s *subscription.Spec, e entry) error {
	if e.key == "topics" {
		items, ok := r.sequence(e.value, "topics")
		if !ok {
			return nil
		}
		for _, item := range items {
			if _, folded := r.anchors.resolve(item).(*ast.LiteralNode); folded {
				return errors.New(quoteHint)
			}
			if text, ok := r.scalar(item, "a topic pattern"); ok {
				s.Topics = append(s.Topics, text)
			}
		}
		return subscription.CheckTopics(s.Topics)
	}
	if own := subscription.Find(e.key); own != nil {
		return r.setting(&s.Settings, own, e)
	}
	text, ok := r.scalar(e.value, e.key)
	if !ok {
		return nil
	}
	switch e.key {
	case "name":
		s.Name = text
		return subscription.CheckName(text)
	case "start":
		s.Start = text
		return subscription.CheckStart(text)
	case "sink":
		var err error
		s.Sink, err = expand(text)
		return err
	}
	return nil
}

// setting reads one of subscription.Fields, and checks it as far as it can be checked alone.
func (r *fileReader) setting(s *subscription.Settings, f *subscription.Field, e entry) error {
	raw, err := r.json(f, e)
	if err != nil || raw == nil {
		return err
	}
	var alone subscription.Settings
	if err := f.Decode(&alone, raw); err != nil {
		return err
	}
	if err := f.Check(&alone); err != nil {
		return err
	}
	return f.Decode(s, raw)
}

// json returns a setting's value, nil if a problem was reported.
func (r *fileReader) json(f *subscription.Field, e entry) (json.RawMessage, error) {
	var text string
	var ok bool
	switch f.Shape {
	case subscription.Object, subscription.Table: // as it stands: what it means is said by whoever decodes it
		if _, ok := r.mapping(e.value, e.key); !ok {
			return nil, nil
		}
		value, ok := r.value(e.value)
		if !ok {
			return nil, nil
		}
		return json.Marshal(value)
	case subscription.List:
		items, isList := r.sequence(e.value, e.key)
		if !isList {
			return nil, nil
		}
		var texts []string
		for _, item := range items {
			if text, ok = r.scalar(item, "a wait"); !ok {
				return nil, nil
			}
			texts = append(texts, text)
		}
		text = strings.Join(texts, ",")
	default:
		if text, ok = r.scalar(e.value, e.key); !ok {
			return nil, nil
		}
	}
	raw, err := f.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", e.key, text, err)
	}
	return raw, nil
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} in a sink by the environment variable NAME, so that secrets need not be in the file.
func expand(sink string) (string, error) {
	var unset []string
	expanded := reference.ReplaceAllStringFunc(sink, func(ref string) string {
		name := ref[2 : len(ref)-1]
		value, ok := os.LookupEnv(name)
		if !ok {
			unset = append(unset, name)
		}
		return value
	})
	if len(unset) > 0 {
		return "", fmt.Errorf("sink: the environment variable %s is not set", strings.Join(unset, ", "))
	}
	return expanded, nil
}

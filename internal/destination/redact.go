package destination

import (
	"encoding/json"
	"net/url"
	"reflect"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/subscription"
)

// Hidden stands in place of a secret.
const Hidden = "xxxxx"

// secretName matches the names of query parameters that carry secrets.
var secretName = regexp.MustCompile(`(?i)token|key|secret|passw|pwd|sig|auth|creds|credential|seed|jwt`)

// secretValue hides password=… in a connection string of keywords.
var secretValue = regexp.MustCompile(`(?i)((?:password|passfile|sslpassword)\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)`)

// Redact returns a sink's URL without its userinfo and without the values of parameters that look like secrets.
func Redact(sink string) string {
	if sink == "" {
		return ""
	}
	u, err := url.Parse(sink)
	if err != nil {
		return redactText(sink)
	}
	if strings.Contains(u.Opaque, "@") {
		u.Opaque = Hidden
	}
	if u.User != nil {
		u.User = url.User(Hidden)
	}
	u.RawQuery = redactQuery(u.RawQuery)
	if u.Fragment != "" {
		u.Fragment = Hidden
	}
	return u.String()
}

// redactText is for what the parser does not take, such as several hosts, or a password with odd characters: all up to the
// last @ may be userinfo.
func redactText(sink string) string {
	scheme, rest, _ := strings.Cut(sink, "://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = Hidden + rest[i:]
	}
	rest, query, ok := strings.Cut(rest, "?")
	if ok {
		rest += "?" + redactQuery(query)
	}
	return scheme + "://" + rest
}

// redactQuery works on the text, so that all else stays as it was written.
func redactQuery(query string) string {
	if query == "" {
		return ""
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, _, ok := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); ok && (err != nil || secretName.MatchString(plain)) {
			parts[i] = name + "=" + Hidden
		}
	}
	return strings.Join(parts, "&")
}

// optionNames are the options of all kinds of destinations.
var optionNames = func() map[string]option {
	names := make(map[string]option)
	for _, d := range all {
		if d.Options != nil {
			addNames(names, reflect.TypeOf(d.Options))
		}
	}
	return names
}()

// option is one key of the options.
type option struct {
	secret  bool              // its value has to be a reference, or several
	perName bool              // its values are secrets if their names say so
	object  map[string]option // nil if it is no object
}

// addNames adds the keys of a struct in JSON. A key that is secret for one kind of destination is so for all.
func addNames(names map[string]option, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous { // JSON has its fields among ours
			addNames(names, field.Type)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		o := names[name]
		o.secret = o.secret || field.Tag.Get("secret") != ""
		switch field.Type.Kind() {
		case reflect.Map:
			o.perName = true
		case reflect.Struct:
			if o.object == nil {
				o.object = make(map[string]option)
			}
			addNames(o.object, field.Type)
		}
		names[name] = o
	}
}

// RedactOptions returns a subscription's options without what should have been a reference and is not. References are shown.
func RedactOptions(options json.RawMessage) string {
	if len(options) == 0 {
		return ""
	}
	var all map[string]any
	if json.Unmarshal(options, &all) != nil {
		return Hidden
	}
	redactNamed(all, optionNames)
	text, err := json.Marshal(all)
	if err != nil {
		return Hidden
	}
	return string(text)
}

// redactNamed hides the values of an object that are or may be secrets: of a name that is misspelt nobody knows what it holds.
func redactNamed(object map[string]any, known map[string]option) {
	for name, value := range object {
		o, ok := known[name]
		inner, isObject := value.(map[string]any)
		switch {
		case !ok || o.secret || (o.perName || o.object != nil) && !isObject:
			object[name] = RedactReferences(value)
		case o.object != nil:
			redactNamed(inner, o.object)
		case o.perName:
			for name, value := range inner {
				if secretName.MatchString(name) || strings.Contains(strings.ToLower(name), "cookie") {
					inner[name] = RedactReferences(value)
				}
			}
		}
	}
}

// RedactReferences hides all texts that are no references.
func RedactReferences(value any) any {
	switch v := value.(type) {
	case string:
		if v == "environment" || strings.HasPrefix(v, "env:") || strings.HasPrefix(v, "file:") {
			return v
		}
	case []any:
		for i := range v {
			v[i] = RedactReferences(v[i])
		}
		return v
	}
	return Hidden
}

// RedactSettings returns a subscription's settings as the database has them, with redacted options.
func RedactSettings(settings json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(settings, &all) != nil {
		return json.RawMessage(`"` + Hidden + `"`)
	}
	for name := range all {
		f := subscription.Find(name)
		if f == nil {
			all[name] = json.RawMessage(`"` + Hidden + `"`)
		} else if f.Shape == subscription.Object {
			options := RedactOptions(all[name])
			if options == Hidden {
				options = `"` + Hidden + `"`
			}
			all[name] = json.RawMessage(options)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return text
}

// RedactDatabase returns a connection string without its password.
func RedactDatabase(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil && strings.Contains(text, "://") {
		return redactText(text) // pgx takes some addresses that the standard library does not
	}
	if err == nil && u.Scheme != "" {
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), Hidden)
		}
		u.RawQuery = redactQuery(u.RawQuery)
		return u.String()
	}
	if _, err := pgx.ParseConfig(text); err != nil {
		return Hidden
	}
	return secretValue.ReplaceAllString(text, "${1}"+Hidden)
}

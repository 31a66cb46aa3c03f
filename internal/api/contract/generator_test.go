package contract

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// generator makes requests up, from what the document says; about every other one is spoilt.
type generator struct {
	*rand.Rand
	doc   map[string]any
	names []string
	spoil bool
}

func oneOf[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) request(o operation) request {
	g.spoil = g.IntN(2) == 0
	q := request{method: o.method, path: o.path}
	query := url.Values{}
	for _, p := range list(o.spec["parameters"]) {
		p := p.(map[string]any)
		name, schema := p["name"].(string), p["schema"].(map[string]any)
		value := g.parameter(name, schema)
		switch p["in"] {
		case "path":
			q.strange = q.strange || value == "" || strings.ContainsAny(value, "/.")
			q.path = strings.ReplaceAll(q.path, "{"+name+"}", url.PathEscape(value))
		case "query":
			if value != "" && g.IntN(3) == 0 { // an empty one counts as left out
				query.Set(name, value)
			}
		}
	}
	if g.spoil && g.IntN(6) == 0 {
		query.Set(oneOf(g, "limt", "x", "Limit", "\x00"), "1")
	}
	if len(query) > 0 {
		q.path += "?" + query.Encode()
	}
	if body, ok := o.spec["requestBody"].(map[string]any); ok {
		schema := body["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
		q.kind, q.body = "application/json", g.body(schema)
		if required, _ := body["required"].(bool); g.IntN(12) == 0 && (!required || g.spoil) {
			q.body = nil
		}
		if g.spoil && q.body != nil && g.IntN(12) == 0 { // without a body its type means nothing
			q.kind = oneOf(g, "text/plain", "application/xml", "", "application/x-www-form-urlencoded")
		}
	}
	return q
}

// kept is a subscription that no request's path names, so that none removes it: there is always one that jobs can be asked of.
const kept = "kept"

func list(value any) []any {
	l, _ := value.([]any)
	return l
}

func (g *generator) parameter(name string, schema map[string]any) string {
	if g.spoil && g.IntN(3) == 0 {
		return oneOf(g, "", "x", "-1", "0", "1e9", "99999999999999999999", "null", "ä", "%00", "a b", "2026-01-31", "true", "'; --", strings.Repeat("x", 3000))
	}
	switch {
	case name == "name" || name == "subscription":
		return oneOf(g, g.names...)
	case name == "status":
		return oneOf(g, "dead", "pending", "delivered", "")
	case name == "wait":
		return oneOf(g, "0s", "1ms", "31s", "soon")
	case name == "topic":
		return oneOf(g, "orders.>", "mail.*", "a.b")
	}
	var text string
	switch value := g.value(schema, 0).(type) {
	case string:
		text = value
	default:
		text = fmt.Sprint(value)
	}
	return text
}

func (g *generator) body(schema map[string]any) []byte {
	text, err := json.Marshal(g.value(schema, 0))
	if err != nil {
		panic(err) // of what value makes
	}
	if g.spoil && g.IntN(8) == 0 {
		return oneOf(g, []byte("{"), []byte("null"), []byte("[]"), []byte(`"x"`), []byte("{}{}"), append(text, '}'), text[:len(text)/2], []byte("\xff\xfe"), []byte(strings.Repeat("[", 10_000)))
	}
	return text
}

// value makes a value for a schema up.
func (g *generator) value(schema map[string]any, depth int) any {
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		return g.value(g.doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any), depth)
	}
	if g.spoil && g.IntN(10) == 0 {
		return g.anything()
	}
	if words := list(schema["enum"]); len(words) > 0 {
		return oneOf(g, words...)
	}
	if examples := list(schema["examples"]); len(examples) > 0 && g.IntN(2) == 0 {
		return examples[0]
	}
	switch g.kind(schema) {
	case "object":
		return g.object(schema, depth)
	case "array":
		items := []any{}
		for range 1 + g.IntN(3) {
			items = append(items, g.value(schema["items"].(map[string]any), depth+1))
		}
		return items
	case "integer":
		low, high := 1.0, 50.0
		if v, ok := schema["minimum"].(float64); ok {
			low = v
		}
		if v, ok := schema["maximum"].(float64); ok {
			high = min(v, low+50)
		}
		return int64(low) + g.Int64N(int64(max(high-low, 0))+1)
	case "number":
		return g.Float64() * 100
	case "boolean":
		return g.IntN(2) == 0
	case "null":
		return nil
	case "string":
		return g.text(schema)
	}
	return g.anything()
}

// kind chooses one of the types.
func (g *generator) kind(schema map[string]any) string {
	switch kind := schema["type"].(type) {
	case string:
		return kind
	case []any:
		return oneOf(g, kind...).(string)
	}
	return ""
}

func (g *generator) object(schema map[string]any, depth int) any {
	out := map[string]any{}
	properties, _ := schema["properties"].(map[string]any)
	var names []string
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names) // one seed is one run
	required := list(schema["required"])
	for _, name := range names {
		needed := slices.Contains(required, any(name))
		if g.spoil && g.IntN(10) == 0 || !needed && g.IntN(3) > 0 {
			continue
		}
		out[name] = g.member(name, properties[name].(map[string]any), depth)
	}
	if other, ok := schema["additionalProperties"].(map[string]any); ok {
		out[oneOf(g, "tenant", "x")] = g.value(other, depth+1)
	}
	if g.spoil && g.IntN(10) == 0 {
		out[oneOf(g, "topik", "x", "", "$schema")] = g.anything()
	}
	return out
}

// member knows what there is, so that some requests find it.
func (g *generator) member(name string, schema map[string]any, depth int) any {
	if g.spoil && g.IntN(4) == 0 {
		return g.value(schema, depth+1)
	}
	switch name {
	case "subscription":
		return oneOf(g, append([]string{kept, kept, kept}, g.names...)...)
	case "sink":
		return oneOf(g, "stdout:", "pull:", "http://127.0.0.1:1/x", "htps://x")
	case "topics":
		return []any{oneOf(g, "orders.>", "mail.*", ">")}
	case "topic":
		return oneOf(g, "orders.created", "mail.sent")
	case "settings":
		return oneOf[any](g, map[string]any{}, map[string]any{"max_attempts": 3}, map[string]any{"max_atempts": 3}, map[string]any{"timeout": "1s"})
	case "start", "from":
		if schema["items"] == nil {
			return oneOf(g, "now", "earliest", "1h", "soon")
		}
	case "cron":
		return oneOf(g, "0 3 * * *", "* * * * *", "@hourly", "61 * * * *")
	case "zone":
		return oneOf(g, "UTC", "Europe/Berlin", "Mars/Base")
	case "missed":
		return oneOf(g, "skip", "last", "all(3)", "all")
	case "wait", "after":
		return oneOf(g, "0s", "1ms", "soon")
	case "unique_scope":
		return oneOf(g, "pending:mail", "1h", "for ever")
	}
	return g.value(schema, depth+1)
}

func (g *generator) text(schema map[string]any) string {
	switch schema["format"] {
	case "date-time":
		return oneOf(g, "2026-01-31T12:00:00Z", "1999-12-31T23:59:59.123456+02:00", "2999-01-01T00:00:00Z")
	}
	if schema["contentEncoding"] == "base64" {
		return oneOf(g, "AAE=", "", "eA==")
	}
	return oneOf(g, "a", "k-1", "Zoë ✓", "x y", "1")
}

// anything is what nobody expects.
func (g *generator) anything() any {
	return oneOf[any](g, nil, true, 0, -1, 1.5, 1e300, int64(1)<<62, "", "x", "\x00", "\u202e", strings.Repeat("x", 20_000), []any{}, []any{nil}, map[string]any{}, map[string]any{"": nil}, map[string]any{"$gt": 1}, []any{[]any{[]any{}}})
}

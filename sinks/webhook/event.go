package webhook

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/sinks"
)

const (
	jsonType  = "application/json"
	bytesType = "application/octet-stream"
)

// attributes are what CloudEvents says of a message beside its data (specification 1.0.2, "Context Attributes").
type attributes struct {
	id, source, kind, time string
	key                    string // subject and partitionkey; empty if there is none
	contentType            string
}

func (s *Sink) attributes(d *sinks.Delivery, own map[string]string) attributes {
	return attributes{
		id: d.MessageID, source: s.source(d.MessageID), kind: cmp.Or(s.options.Type, d.Topic),
		time: d.CreatedAt.UTC().Format(time.RFC3339Nano), key: attribute(d.Key), contentType: contentType(d, own),
	}
}

const defaultSource = "/postrider/"

// source is the default one unless there is an option. For that it takes the source id out of a message id: source id, id
// and time, joined by dashes. All messages of a database have the same.
func (s *Sink) source(id string) string {
	if s.options.Source != "" {
		return s.options.Source
	}
	source, _, _ := strings.Cut(id, "-")
	if last := s.lastSource.Load(); last != nil && (*last)[len(defaultSource):] == source {
		return *last
	}
	whole := defaultSource + source
	s.lastSource.Store(&whole)
	return whole
}

func contentType(d *sinks.Delivery, own map[string]string) string {
	for name, value := range own {
		if isContentType(name) {
			return value
		}
	}
	if d.JSON {
		return jsonType
	}
	return bytesType
}

func isContentType(name string) bool {
	return len(name) == len("content-type") && strings.EqualFold(name, "content-type")
}

// attribute returns text that an attribute may hold: no control characters, valid UTF-8 ("Type System"). Any other text
// is percent-encoded like our own headers.
func attribute(text string) string {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7F {
			if utf8.ValidString(text) && !strings.ContainsFunc(text, notInAttribute) {
				return text
			}
			return sinks.EncodeHeader(text)
		}
	}
	return text
}

// notInAttribute reports control characters and noncharacters.
func notInAttribute(r rune) bool {
	return r < ' ' || 0x7F <= r && r <= 0x9F || 0xFDD0 <= r && r <= 0xFDEF || r&0xFFFE == 0xFFFE
}

// encodeAttribute is the encoding of the HTTP binding ("HTTP Header Values"): ours, and of double quotes as well.
func encodeAttribute(value string) string {
	value = sinks.EncodeHeader(value)
	if strings.IndexByte(value, '"') >= 0 {
		value = strings.ReplaceAll(value, `"`, "%22")
	}
	return value
}

// setHeaders writes the attributes of the binary format.
func (a attributes) setHeaders(f *fields) {
	f.set("Ce-Specversion", "1.0")
	f.set("Ce-Id", encodeAttribute(a.id))
	f.set("Ce-Source", encodeAttribute(a.source))
	f.set("Ce-Type", encodeAttribute(a.kind))
	f.set("Ce-Time", a.time)
	if a.key != "" {
		key := encodeAttribute(a.key)
		f.set("Ce-Subject", key)
		f.set("Ce-Partitionkey", key)
	}
}

// event returns a message in CloudEvents' JSON format, without a line end in it. An error means that the message cannot
// be sent in it.
func (s *Sink) event(d *sinks.Delivery, own map[string]string) ([]byte, error) {
	extensions, err := extensions(own)
	if err != nil {
		return nil, err
	}
	a := s.attributes(d, own)
	b := make([]byte, 0, 320+len(d.Payload)+len(d.Headers)+3*len(d.Key))
	b = append(b, `{"specversion":"1.0"`...)
	b = member(b, "id", a.id)
	b = member(b, "source", a.source)
	b = member(b, "type", a.kind)
	b = member(b, "time", a.time)
	if a.key != "" {
		b = member(b, "subject", a.key)
		b = member(b, "partitionkey", a.key)
	}
	b = member(b, "postridertopic", d.Topic)
	b = append(b, `,"postriderattempt":`...)
	b = strconv.AppendInt(b, int64(d.Attempt), 10)
	if tellsPriority(d) {
		b = append(b, `,"postriderpriority":`...)
		b = strconv.AppendInt(b, int64(d.Priority), 10)
	}
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		b = member(b, name, extensions[name])
	}
	b = member(b, "datacontenttype", a.contentType)
	if b, err = appendData(b, d, a.contentType); err != nil {
		return nil, err
	}
	return append(b, '}'), nil
}

// tellsPriority says whether a receiver is told a message's priority: it is, where it is not the default. 0 is unset.
func tellsPriority(d *sinks.Delivery) bool {
	return d.Priority != 0 && d.Priority != sinks.DefaultPriority
}

// appendData writes a payload that is JSON, and is called so, as it is, and any other in base64: that is always right, and
// of the libraries of receivers some take an object for a mistake if its type is application/vnd.shop+json.
func appendData(b []byte, d *sinks.Delivery, contentType string) ([]byte, error) {
	if base := mediaType(contentType); !d.JSON || base != jsonType && base != "text/json" {
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, d.Payload)
		return append(b, '"'), nil
	}
	b = append(b, `,"data":`...)
	if bytes.IndexByte(d.Payload, '\n') < 0 && bytes.IndexByte(d.Payload, '\r') < 0 {
		return append(b, d.Payload...), nil
	}
	buf := bytes.NewBuffer(b)
	if err := json.Compact(buf, d.Payload); err != nil {
		return nil, fmt.Errorf("the payload is not JSON: %w", err)
	}
	return buf.Bytes(), nil
}

// mediaType returns a media type without its parameters.
func mediaType(contentType string) string {
	base, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(base))
}

// ourAttributes are the members of an event that a message's headers cannot be.
var ourAttributes = map[string]bool{
	"": true, "specversion": true, "id": true, "source": true, "type": true, "time": true, "subject": true, "partitionkey": true,
	"datacontenttype": true, "datacontentencoding": true, "dataschema": true, "data": true, "database64": true,
	"postridertopic": true, "postriderattempt": true, "postriderpriority": true,
}

// extensions makes extension attributes of a message's own headers. Their names hold lower-case letters and digits only:
// X-Shop-Id becomes xshopid.
func extensions(own map[string]string) (map[string]string, error) {
	if len(own) == 0 {
		return nil, nil
	}
	all := make(map[string]string, len(own))
	for name, value := range own {
		if isContentType(name) {
			continue // datacontenttype
		}
		short := strings.Map(letterOrDigit, name)
		if ourAttributes[short] {
			return nil, fmt.Errorf("header %q cannot be an attribute of a CloudEvent: %q has a meaning of its own there, rename the header", name, short)
		}
		if _, ok := all[short]; ok {
			return nil, fmt.Errorf("header %q and another one would both be the attribute %q of a CloudEvent, rename one", name, short)
		}
		all[short] = attribute(value)
	}
	return all, nil
}

func letterOrDigit(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A'
	}
	return -1
}

func member(b []byte, name, value string) []byte {
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return appendString(b, value)
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always has a JSON form
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

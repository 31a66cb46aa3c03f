package config

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// lists hands over what the documents of a file have under a key; other, if there is one, is a key that belongs to another command.
func (r *fileReader) lists(text []byte, key, other string, each func(entry)) {
	file, err := parser.ParseBytes(text, 0)
	if yamlErr, ok := errors.AsType[yaml.Error](err); ok {
		text := yamlErr.GetMessage()
		if strings.Contains(text, "header option") {
			text += "; " + quoteHint
		}
		r.problem(yamlErr.GetToken().Position.Line, "%s", text)
		return
	}
	if err != nil {
		r.problem(1, "%s", err)
		return
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		top, ok := r.mapping(doc.Body, "the file")
		if !ok {
			continue
		}
		for _, e := range top {
			if other != "" && e.key == other {
				r.problem(e.line, "%s are not applied by this command: put them into a file of their own", other)
			} else if r.known(e, key) {
				each(e)
			}
		}
	}
}

package webhook

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	o, err := ParseOptions([]byte(`{"format":"ndjson","secrets":["env:A","file:/b"],"headers":{"X-A":"1"},"http2":false,"retry_after_max":"1m30s"}`))
	if err != nil || o.Format != FormatNDJSON || len(o.Secrets) != 2 || o.Headers["X-A"] != "1" || o.HTTP2 == nil || *o.HTTP2 {
		t.Errorf("%+v, %v", o, err)
	}
	if text, err := json.Marshal(o); err != nil || !strings.Contains(string(text), `"retry_after_max":"1m30s"`) || strings.Contains(string(text), "tls") {
		t.Errorf("written as %s, %v", text, err)
	}
	for _, text := range []string{"", "{}", "null", " {} \n"} {
		if _, err := ParseOptions([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{"fromat":"batch"}`:                 `options: unknown key "fromat": known here: format, batch_bytes`,
		`{} {}`:                              `options: something follows the JSON object`,
		`[]`:                                 `options: must be a JSON object, not a list`,
		`{"rate":}`:                          `options: is no JSON: invalid character '}' looking for beginning of value at byte 9`,
		`{"rate":1`:                          `options: is no JSON: it ends too soon`,
		`{"rate":"hush"}`:                    `options: rate: must be a number, not a text`,
		`{"guard":{"public":true}}`:          `options: guard: unknown key "public": known here: allow, deny, public_only`,
		`{"dead":[404,"hush"]}`:              `options: dead[1]: must be a whole number, not a text`,
		`{"headers":{"X-A":1}}`:              `options: headers.X-A: must be a text, not a number`,
		`{"secrets":"hush"}`:                 `options: secrets: must be a list, not a text`,
		`{"async":"hush"}`:                   `options: async: must be true or false, not a text`,
		`{"async_lease":{"a":"hush"}}`:       `options: async_lease: must be a text, not an object`,
		`{"retry_after_max":"10"}`:           `duration "10": must be a number with a unit`,
		`{"format":"avro"}`:                  `options: format "avro": must be raw, binary, structured, batch or ndjson`,
		`{"batch_bytes":10}`:                 `batch_bytes 10: must be from 1024 to 67108864`,
		`{"batch_bytes":-1}`:                 `batch_bytes -1: must be from`,
		`{"type":"a\nb"}`:                    `type "a\nb": must be UTF-8 text without control characters`,
		`{"type":"a.b"}`:                     `type is "a.b" and format is raw: it is an attribute of CloudEvents, so that the format must be binary, structured`,
		`{"format":"raw","source":"/a"}`:     `source is "/a" and format is raw: it is an attribute of CloudEvents`,
		`{"source":"a b"}`:                   `source "a b": must be a URI reference, such as /shop`,
		`{"source":"%zz"}`:                   `source "%zz": must be a URI reference`,
		`{"secrets":["hush"]}`:               `secrets[0] holds something else than a reference`,
		`{"secrets":["env:A","hush"]}`:       `secrets[1] holds something else than a reference`,
		`{"basic":"hush:hush"}`:              `basic holds something else than a reference`,
		`{"bearer":"hush"}`:                  `bearer holds something else than a reference`,
		`{"basic":"env:A","bearer":"env:B"}`: `basic and bearer are both given`,
		`{"basic":"env:A","headers":{"authorization":"env:B"}}`: `headers["authorization"] is given, and so is basic or bearer`,
		`{"headers":{"X-Api-Key":"hush"}}`:                      `headers["X-Api-Key"] holds a secret by its name: its value must be a reference`,
		`{"headers":{"Authorization":"Bearer hush"}}`:           `headers["Authorization"] holds a secret by its name`,
		`{"headers":{"X-A":"file:hush"}}`:                       `headers["X-A"] begins with file:, and an absolute path must follow`,
		`{"headers":{"Content-Type":"x"}}`:                      `headers["Content-Type"] is reserved`,
		`{"headers":{"ce-type":"x"}}`:                           `headers["ce-type"] is reserved`,
		`{"headers":{"Webhook-Id":"x"}}`:                        `headers["Webhook-Id"] is reserved`,
		`{"headers":{"host":"x"}}`:                              `headers["host"] is reserved`,
		`{"headers":{"a b":"x"}}`:                               `headers: header name "a b" holds ' '`,
		`{"headers":{"X-A":"hu\nsh"}}`:                          `headers: the value of header "X-A" holds the control character`,
		`{"headers":{"X-A":"1","x-a":"2"}}`:                     `headers: headers "X-A" and "x-a" differ in case only`,
	} {
		_, err := ParseOptions([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v, want %q and no secret", text, err, want)
		}
	}
}

// Validate works where references lead nowhere; New does not.
func TestValidateFollowsNoReference(t *testing.T) {
	cfg := Config{URL: "https://host.invalid", Options: Options{Secrets: []string{"file:/nowhere/at/all"}, Bearer: "env:POSTRIDER_TEST_NOT_SET"}}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "bearer: the variable POSTRIDER_TEST_NOT_SET is not set") {
		t.Errorf("New: %v", err)
	}
	cfg.URL = "https://joe:hush@host.invalid"
	for _, cfg.Options = range []Options{{Bearer: "env:A"}, {Basic: "env:A"}, {Headers: map[string]string{"authorization": "env:A"}}} {
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), "webhook URL has user info, and basic, bearer") || strings.Contains(err.Error(), "hush") {
			t.Errorf("user info and %+v: %v", cfg.Options, err)
		}
	}
}

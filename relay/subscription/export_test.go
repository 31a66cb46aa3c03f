package subscription

import "testing"

// AddSetting adds one entry to Fields for a test. What it sets is Batch, under another name.
func AddSetting(t *testing.T, name, help string, most int) {
	was := Fields
	Fields = append(Fields[:len(Fields):len(Fields)], count(name, func(s *Settings) *int { return &s.Batch }, 7, most, help))
	t.Cleanup(func() { Fields = was })
}

// ParseSettings decodes the settings column, fills in the defaults and checks all. An unknown key is an error.
func ParseSettings(text []byte) (Settings, error) {
	s, err := DecodeSettings(text)
	if err != nil {
		return s, err
	}
	return s.WithDefaults(), s.Validate()
}

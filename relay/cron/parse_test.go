package cron

import (
	"strings"
	"testing"
)

// Bad input is told what is wrong with it, and what would be right.
func TestWhatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "0 fields: five fields are needed",
		"0 12 * *":                  "4 fields: five fields are needed",
		"0 0 12 * * *":              "6 fields: seconds and years are not known",
		"CRON_TZ=UTC 0 0 * * *":     "it is a setting of its own, zone",
		"TZ=":                       "it is a setting of its own, zone",
		"@reboot":                   "must be @yearly",
		"@every 5m":                 "must be @yearly",
		"60 * * * *":                `minute "60": "60" must be from 0 to 59`,
		"* 24 * * *":                `hour "24": "24" must be from 0 to 23`,
		"* * 0 * *":                 `day of month "0": "0" must be from 1 to 31`,
		"* * * 13 *":                `"13" must be from 1 to 12 or from jan to dec`,
		"* * * * 8":                 `"8" must be from 0 to 7 or from sun to sat`,
		"* * L * *":                 `"L" must be from 1 to 31`,
		"* * ? * *":                 `"?" must be from 1 to 31`,
		"* * * * fri#2":             `"fri#2" must be`,
		"-1 * * * *":                `"" must be from 0 to 59`,
		"1,,2 * * * *":              `"" must be from 0 to 59`,
		"+1 * * * *":                `"+1" must be from 0 to 59`,
		"5/10 * * * *":              "write 5-59/10",
		"*/0 * * * *":               "must be from 1 to 59",
		"*/90 * * * *":              `step "90": must be from 1 to 59`,
		"1-10/ * * * *":             `step "": must be from 1 to 59`,
		"* * * * sat-mon":           "begins after its end: write two ranges, sat-7,0-mon",
		"0 0 30 2 *":                `no month of "2" has a day of "30"`,
		"0 0 31 4,6,9,11 *":         "there is no such day",
		"0 0 99999999999999999 * *": "must be from 1 to 31",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `cron "`) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, name := range []string{"Local", "Europe/Berlin2", "right/UTC", "../UTC", "CEST", "/etc/passwd"} {
		if _, err := Zone(name); err == nil || !strings.Contains(err.Error(), "such as Europe/Berlin") {
			t.Errorf("zone %q: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"* * * * *", "*/5 1-3,7 * jan-mar sun", "@daily", "0 0 29 2 */7", "TZ=", "1-/2 , * * *"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { // it neither panics nor takes long
		_, _ = Parse(text)
	})
}

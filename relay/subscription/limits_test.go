package subscription_test

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
)

func TestLimits(t *testing.T) {
	s, err := subscription.ParseSettings([]byte(`{"limits": {"in_flight": 500, "rate": "100/s", "per": {"by": "header:tenant", "in_flight": 4, "rate": "10/m"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := subscription.Limits{
		Limit: subscription.Limit{InFlight: 500, Rate: subscription.Rate{Count: 100, Per: time.Second}},
		Per:   subscription.PerLimits{By: "header:tenant", Limit: subscription.Limit{InFlight: 4, Rate: subscription.Rate{Count: 10, Per: time.Minute}}},
	}
	if s.Limits != want || s.Limits.Per.Header() != "tenant" {
		t.Errorf("%+v", s.Limits)
	}
	text, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := subscription.ParseSettings(text); err != nil || again.Limits != want {
		t.Errorf("%s is read as %+v, %v", text, again.Limits, err)
	}
	if few, err := subscription.ParseSettings([]byte(`{"limits": {"rate": "3/h"}}`)); err != nil || few.Equal(s) {
		t.Errorf("%+v, %v", few.Limits, err)
	}
}

// What is wrong is named, with its value and what would be right.
func TestLimitsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{"in_flight": -1}`:                              "limits.in_flight -1: must be from 1 to 1000000",
		`{"in_flight": "many"}`:                          "limits.in_flight: must be a whole number, not a text",
		`{"rate": 100}`:                                  `limits.rate: rate "100": must be a whole number from 1 to 1000000 and a unit of time, such as 100/s, 30/m or 500/h`,
		`{"rate": "0/s"}`:                                `limits.rate: rate "0/s": must be a whole number from 1`,
		`{"rate": "5/week"}`:                             `limits.rate: rate "5/week": must be a whole number from 1`,
		`{"per": {"by": "key"}}`:                         "limits.per: must have in_flight, rate or both",
		`{"per": {"in_flight": 1}}`:                      `limits.per.by "": must be key, header:NAME, such as header:tenant, or cel: and an expression, such as cel:payload.customer`,
		`{"per": {"by":"header:","in_flight":1}}`:        `limits.per.by "header:": must be key, header:NAME`,
		`{"per": {"by":"key","in_flight":-2}}`:           "limits.per.in_flight -2: must be from 1 to 1000000",
		`{"per": {"by":"cel:","in_flight":1}}`:           "limits.per.by cel: line 1, column 1: there is no expression: its value must be a text, a whole number, true or false",
		`{"per": {"by":"cel:paylod.x","in_flight":1}}`:   "limits.per.by cel: line 1, column 1: nothing is called 'paylod'",
		`{"per": {"by":"cel:created_at","in_flight":1}}`: "limits.per.by cel: line 1, column 1: its value must be a text, a whole number, true or false, as of payload.customer, and is of type google.protobuf.Timestamp",
		`{"inflight": 3}`:                                `did you mean "in_flight"?`,
		`7`:                                              "limits: must be a JSON object, not a number",
	} {
		if _, err := subscription.ParseSettings([]byte(`{"limits": ` + text + `}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is refused with %v, want %s", text, err, want)
		}
	}
}

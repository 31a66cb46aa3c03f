package workertest

import "encoding/json"

type ref struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id"`
	Token        string `json:"token"`
}

type takeFrom struct {
	From []struct {
		Subscription string `json:"subscription"`
		Max          int    `json:"max"`
	} `json:"from"`
	Wait string `json:"wait"`
}

// request has the fields of all three verbs.
type request struct {
	Worker      string `json:"worker"`
	Incarnation string `json:"incarnation"`
	takeFrom
	Take    *takeFrom `json:"take"`
	Holding *[]ref    `json:"holding"`
	Items   []struct {
		ref
		Outcome string          `json:"outcome"`
		After   string          `json:"after"`
		Reason  string          `json:"reason"`
		Result  json.RawMessage `json:"result"`
	} `json:"items"`
	Progress []struct {
		ref
		Percent int    `json:"percent"`
		Note    string `json:"note"`
	} `json:"progress"`
}

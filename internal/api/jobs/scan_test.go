package jobs

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzScan: what is read the quick way is what encoding/json reads.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"worker":"w","incarnation":"1","from":[{"subscription":"mail","max":10}],"wait":"30s","holding":[{"subscription":"mail","id":17,"token":"x"}]}`,
		`{ "worker" : "w\u00e9" , "incarnation":"1","items":[{"subscription":"m","id":-18,"token":"t","outcome":"retry","after":"30s","reason":"a \"b\" \\","result":{"a":[1,2.5,null,"]}"]}}],"take":{"from":[],"wait":"1s"}}`,
		`{"worker":"w","incarnation":"1","progress":[{"subscription":"mail","id":18,"token":"t","percent":40,"note":"4 of 10"}],"holding":[]}`,
		`{"worker":null,"items":[{"id":1e3},{"id":01}]}`, `{"items":[,]}`, `{"items":[1,]}`, `{}{}`, `{"worker":"a","worker":"b","Worker":"c"}`,
		`{"worker":"\xff","holding":null}`, `{"items":[{"result":nul}]}`, `{"wait":"1 hour"}`, `[]`, ``, `{"id":9223372036854775808}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		compare[takeRequest](t, text)
		compare[settleRequest](t, text)
		compare[beatRequest](t, text)
	})
}

func compare[T any, P interface {
	*T
	scanned
}](t *testing.T, text string) {
	quick, slow := P(new(T)), new(T)
	if !scan(text, quick) {
		return
	}
	if err := json.Unmarshal([]byte(text), slow); err != nil {
		t.Fatalf("%T: %q is read as %+v, and encoding/json says: %v", slow, text, quick, err)
	}
	if !reflect.DeepEqual((*T)(quick), slow) {
		t.Fatalf("%q is read as %+v, and encoding/json reads %+v", text, quick, slow)
	}
}

// TestOrdinaryRequestsAreReadQuickly: what the libraries send takes the quick way.
func TestOrdinaryRequestsAreReadQuickly(t *testing.T) {
	if !scan(`{"worker":"w","incarnation":"1","from":[{"subscription":"mail","max":10}],"wait":"30s","holding":[{"subscription":"mail","id":17,"token":"x"}]}`, new(takeRequest)) ||
		!scan(`{"worker":"w","incarnation":"1","items":[{"subscription":"mail","id":1,"token":"t","outcome":"retry","after":"30s","reason":"é","result":{"a":1}}],"take":{"from":[],"wait":"1s"}}`, new(settleRequest)) ||
		!scan(`{"worker":"w","incarnation":"1","progress":[{"subscription":"mail","id":18,"token":"t","percent":40,"note":"4 of 10"}]}`, new(beatRequest)) {
		t.Error("an ordinary request is read the slow way")
	}
}

package wal

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/message"
)

// What is not kept is not decoded, and what cannot be decoded is an error.
func TestStreamRefusesWhatItDoesNotUnderstand(t *testing.T) {
	relation, insert := seedMessages(t)
	p := newPgoutput(message.NewDecoder("source"))
	if _, _, err := p.parse(insert, true); err == nil || !strings.Contains(err.Error(), "was not announced") {
		t.Errorf("an unknown relation: %v", err)
	}
	mustParse := func(data []byte, keep bool) *message.Row {
		t.Helper()
		_, r, err := p.parse(data, keep)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	mustParse(relation, true)
	if r := mustParse(insert, false); r != nil {
		t.Errorf("a row that was not to be kept: %+v", r)
	}
	if r := mustParse(insert, true); r == nil || r.Topic != "orders.created" || r.Key != "k" || string(r.Payload) != `{"n": 1}` || r.Priority != 1 {
		t.Errorf("row %+v", r)
	}
	for i := range insert {
		if _, r, err := p.parse(insert[:i], true); err == nil || r != nil {
			t.Errorf("a message cut to %d bytes: %+v, %v", i, r, err)
		}
	}
	text := bytes.Replace(insert, []byte("b\x00\x00\x00\x08"), []byte("t\x00\x00\x00\x08"), 1)
	if _, _, err := p.parse(text, true); err == nil || !strings.Contains(err.Error(), "only NULL and binary are expected") {
		t.Errorf("a column in text format: %v", err)
	}
	negative := bytes.Replace(insert, []byte("b\x00\x00\x00\x08"), []byte("b\xff\xff\xff\xf8"), 1)
	if _, _, err := p.parse(negative, true); err == nil || !strings.Contains(err.Error(), "ends early") {
		t.Errorf("a column of negative length: %v", err)
	}
	if _, _, err := p.parse(bytes.Replace(relation, []byte("topic"), []byte("tonic"), 1), true); err == nil ||
		!strings.Contains(err.Error(), "9 of the outbox's 10 columns") {
		t.Errorf("a relation without a topic: %v", err)
	}
}

// seedMessages are a relation and an insertion as PostgreSQL 15 sent them.
func seedMessages(t testing.TB) (relation, insert []byte) {
	relation, err := hex.DecodeString(relationHex)
	if err != nil {
		t.Fatal(err)
	}
	insert, err = hex.DecodeString(insertHex)
	if err != nil {
		t.Fatal(err)
	}
	return relation, insert
}

// FuzzStream wants an error or a row of whatever arrives after an announced relation, never a panic.
func FuzzStream(f *testing.F) {
	relation, insert := seedMessages(f)
	f.Add(insert, relation)
	f.Add([]byte("B"), []byte{})
	f.Add(append(relation[:len(relation):len(relation)], 0xff), insert[:20])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		p := newPgoutput(message.NewDecoder("source"))
		if _, _, err := p.parse(relation, true); err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{first, second, insert} {
			before := bytes.Clone(data)
			kind, r, err := p.parse(data, true)
			if err != nil && r != nil || r != nil && kind != msgInsert {
				t.Errorf("kind %q, row %+v, error %v", kind, r, err)
			}
			if !bytes.Equal(before, data) {
				t.Error("the message was changed")
			}
		}
	})
}

const (
	relationHex = "5200004016706f73747269646572006f7574626f780064000b0169640000000014ffffffff0078696400000013cdffffffff00637265617465645f617400000004a0ffffffff0064656c697665725f617400000004a0ffffffff017365676d656e740000000015ffffffff00746f7069630000000019ffffffff006b65790000000019ffffffff007061796c6f61640000000edaffffffff00626f64790000000011ffffffff00686561646572730000000edaffffffff007072696f726974790000000015ffffffff"
	insertHex   = "49000040164e000b62000000080000000000000001620000000800000000000002e16200000008000303e32c6326616e62000000020001620000000e6f72646572732e6372656174656462000000016b6200000009017b226e223a20317d6e6e62000000020001"
)

package snapshot_test

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/snapshot/snapshottest"
)

// encodeSnapshot writes the binary form.
func encodeSnapshot(s snapshot.Snapshot) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(s.Xip)))
	b = binary.BigEndian.AppendUint64(b, s.Xmin())
	b = binary.BigEndian.AppendUint64(b, s.Xmax)
	for _, x := range s.Xip {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

func TestSnapshotBinary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshottest.Snapshots.Draw(t, "s")
		b := encodeSnapshot(s)
		if back, err := snapshot.Decode(b); err != nil || back.String() != s.String() {
			t.Errorf("%s was read back as %s, %v", s, back, err)
		}
		if back, err := snapshot.Decode(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
			t.Errorf("%s, cut short, was read as %s", s, back)
		}
	})
	for _, s := range []snapshot.Snapshot{{}, {Xmax: 9, Xip: []uint64{5, 4}}, {Xmax: 9, Xip: []uint64{4, 4}}, {Xmax: 9, Xip: []uint64{9}}} {
		if back, err := snapshot.Decode(encodeSnapshot(s)); err == nil {
			t.Errorf("%+v was read as %s", s, back)
		}
	}
}

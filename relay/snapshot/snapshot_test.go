package snapshot_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/snapshot/snapshottest"
)

// sees is the naive reading: the ids that a snapshot sees.
func seenBy(s snapshot.Snapshot) map[uint64]bool {
	seen := make(map[uint64]bool)
	for xid := uint64(0); xid < s.Xmax; xid++ {
		seen[xid] = true
	}
	for _, xid := range s.Xip {
		delete(seen, xid)
	}
	return seen
}

func TestSnapshotSeesAndCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := snapshottest.Snapshots.Draw(t, "a"), snapshottest.Snapshots.Draw(t, "b")
		inA, inB := seenBy(a), seenBy(b)
		lowest := uint64(0)
		for ; inA[lowest]; lowest++ {
		}
		if a.Xmin() != lowest {
			t.Errorf("xmin of %s is %d, want %d", a, a.Xmin(), lowest)
		}
		covers := true
		for xid := range uint64(45) {
			if a.Sees(xid) != inA[xid] {
				t.Errorf("%s sees %d: %t", a, xid, a.Sees(xid))
			}
			covers = covers && (inA[xid] || !inB[xid])
		}
		if a.Covers(b) != covers {
			t.Errorf("%s covers %s: %t, want %t", a, b, a.Covers(b), covers)
		}
	})
}

func TestSnapshotText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshottest.Snapshots.Draw(t, "s")
		back, err := snapshot.Parse(s.String())
		if err != nil || back.Xmax != s.Xmax || !slices.Equal(back.Xip, s.Xip) {
			t.Errorf("%s was read back as %s, %v", s, back, err)
		}
	})
	if s, err := snapshot.Parse((snapshot.Snapshot{}).String()); err != nil || s.Sees(3) || s.Sees(1<<63) {
		t.Errorf("the zero value was written as %s, %v", s, err)
	}
	if s, err := snapshot.Parse("5:9:7,8"); err != nil || s.String() != "7:9:7,8" || !s.Sees(6) || s.Sees(8) {
		t.Errorf("a snapshot whose taker holds the lowest id itself: %s, %v", s, err)
	}
	for _, text := range []string{"", "1", "1:2", "0:2:", "3:2:", "x:2:", "1:x:", "1:3:x", "1:3:3", "2:3:1", "1:9:5,4", "1:9:4,4", "1:9:4,",
		"1:9:,4", "1:9:4:5", "-1:9:", "1:99999999999999999999:"} {
		if s, err := snapshot.Parse(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q was read as %s, %v", text, s, err)
		}
	}
}

func TestWindowsOfAModelLoseNothing(t *testing.T) {
	for range 5 {
		rapid.Check(t, func(t *rapid.T) {
			s := snapshottest.NewServer()
			snaps := []snapshot.Snapshot{s.Snapshot()}
			seen := make(map[int64]int)
			for range rapid.IntRange(5, 80).Draw(t, "steps") {
				s.Act(t)
				if rapid.IntRange(0, 4).Draw(t, "look") > 0 {
					continue
				}
				a, b := snaps[len(snaps)-1], s.Snapshot()
				for _, id := range s.Window(a) {
					seen[id]++
				}
				if !b.Covers(a) {
					t.Errorf("%s does not cover the earlier %s", b, a)
				}
				snaps = append(snaps, b)
			}
			last := snaps[len(snaps)-1]
			for _, r := range s.Visible {
				in := 0 // by the snapshots alone
				for i := range snaps[1:] {
					if snaps[i+1].Sees(r.XID) && !snaps[i].Sees(r.XID) {
						in++
					}
				}
				want := 0
				if last.Sees(r.XID) {
					want = 1
				}
				if in != want || seen[r.ID] != want {
					t.Errorf("row %d of transaction %d is in %d windows and was read %d times, want %d", r.ID, r.XID, in, seen[r.ID], want)
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("row %d was read %d times", id, n)
				}
			}
		})
	}
}

func FuzzParseSnapshot(f *testing.F) {
	for _, text := range []string{"3:3:", "7:9:7,8", "5:9:7", "1:18446744073709551615:18446744073709551614", "1:2:,", "::"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := snapshot.Parse(text)
		if err != nil {
			return
		}
		back, err := snapshot.Parse(s.String())
		if err != nil || !slices.Equal(back.Xip, s.Xip) || back.Xmax != s.Xmax {
			t.Errorf("%q was read as %s, and that as %s, %v", text, s, back, err)
		}
		if !s.Covers(s) || s.Sees(s.Xmax) || s.Sees(s.Xmin()) {
			t.Errorf("%q: contradicts itself", text)
		}
	})
}

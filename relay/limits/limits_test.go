package limits

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_800_000_000, 0)

// book is the brute force: it remembers all that began, and looks at each stretch of time.
type book struct {
	limit Limit
	began []time.Time
	out   int
}

// may says whether one more may begin now, by the definition.
func (b *book) may(now time.Time) bool {
	if b.limit.InFlight > 0 && b.out >= b.limit.InFlight {
		return false
	}
	if b.limit.Rate.Count == 0 {
		return true
	}
	each := (b.limit.Rate.Per + time.Duration(b.limit.Rate.Count) - 1) / time.Duration(b.limit.Rate.Count)
	burst := max(int(together/each), 1)
	for i, from := range b.began {
		if len(b.began)-i+1 > burst+int(now.Sub(from)/each) {
			return false
		}
	}
	return true
}

func (b *book) begin(now time.Time) {
	b.out++
	b.began = append(b.began, now)
}

func drawLimit(t *rapid.T, name string) Limit {
	l := Limit{InFlight: rapid.IntRange(0, 5).Draw(t, name+" in flight")}
	if rapid.Bool().Draw(t, name+" has a rate") {
		l.Rate = Rate{rapid.IntRange(1, 120).Draw(t, name+" rate"), rapid.SampledFrom([]time.Duration{time.Second, time.Minute}).Draw(t, name+" unit")}
	}
	return l
}

// What the limiter lets go is what the definition allows: no more, and no less.
func TestLimiterAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, per := drawLimit(t, "all"), drawLimit(t, "per")
		l, now := New(all, per), epoch
		books := map[string]*book{"": {}, "a": {limit: per}, "b": {limit: per}}
		whole := &book{limit: all}
		var out []*Value
		for range rapid.IntRange(1, 150).Draw(t, "events") {
			if now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 7, 40, 300, 5000}).Draw(t, "ms")) * time.Millisecond); len(out) > 0 && rapid.Bool().Draw(t, "one ends") {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				l.End(out[i])
				whole.out--
				books[out[i].Name].out--
				l.Leave(out[i])
				out = slices.Delete(out, i, i+1)
				continue
			}
			name := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value")
			l.Round()
			v := l.Join(name, now)
			want := whole.may(now) && books[name].may(now)
			if got := l.May(v, now); got != want {
				t.Fatalf("at %s, of %q: may go is %t, want %t; limits %+v %+v", now.Sub(epoch), name, got, want, all, per)
			}
			if !want {
				if until := l.Until(); !until.IsZero() && !until.After(now) {
					t.Fatalf("it is kept back until %s, and it is %s", until.Sub(epoch), now.Sub(epoch))
				}
				l.Leave(v)
				continue
			}
			l.Begin(v, now)
			whole.begin(now)
			books[name].begin(now)
			out = append(out, v)
		}
	})
}

// What is shared out keeps all limits, leaves nothing that could go, and no value gets two more than another that wants as much.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, per := drawLimit(t, "all"), drawLimit(t, "per")
		l, now := New(all, per), epoch
		names := []string{"", "a", "b", "c"}
		out := map[string]int{}
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			var waiting []*Value
			wants := map[string]int{}
			for _, name := range names {
				for range rapid.IntRange(0, 6).Draw(t, "waiting "+name) {
					waiting = append(waiting, l.Join(name, now))
					wants[name]++
				}
			}
			most := rapid.IntRange(1, 12).Draw(t, "most")
			l.Round()
			n := l.Share(now, most, slices.Values(waiting))
			got := map[string]int{}
			for _, v := range waiting {
				if l.Shared(v) {
					if !l.May(v, now) {
						t.Fatalf("%q has a share, and its limits keep it back", v.Name)
					}
					l.Begin(v, now)
					got[v.Name]++
					out[v.Name]++
				}
			}
			if sum := got[""] + got["a"] + got["b"] + got["c"]; sum != n || n > most {
				t.Fatalf("%d began, %d were shared out, at most %d", sum, n, most)
			}
			for _, v := range waiting {
				if n < most && got[v.Name] < wants[v.Name] && l.May(v, now) {
					t.Fatalf("one more of %q could have begun: %v of %v", v.Name, got, wants)
				}
				for other := range wants {
					if got[v.Name] > got[other]+1 && got[other] < wants[other] && l.May(l.Join(other, now), now) {
						t.Fatalf("%q got %d, %q %d of %v", v.Name, got[v.Name], other, got[other], wants)
					}
				}
			}
			for name, some := range out {
				for range rapid.IntRange(0, some).Draw(t, "ended") {
					l.End(l.Join(name, now))
					out[name]--
				}
			}
		}
	})
}

// Values take turns over rounds, too: the one that was served longest ago is first.
func TestValuesTakeTurns(t *testing.T) {
	l := New(Limit{InFlight: 1}, Limit{})
	var order string
	for range 9 {
		waiting := []*Value{l.Join("a", epoch), l.Join("a", epoch), l.Join("b", epoch), l.Join("c", epoch)}
		l.Share(epoch, 4, slices.Values(waiting))
		i := slices.IndexFunc(waiting, l.Shared)
		l.Begin(waiting[i], epoch)
		l.End(waiting[i])
		order += waiting[i].Name
	}
	if order != "abcabcabc" {
		t.Errorf("the turns are %s", order)
	}
}

// Values of which nothing is left are forgotten, but not before their rate would let another one go anyway.
func TestValuesAreForgotten(t *testing.T) {
	l := New(Limit{}, Limit{Rate: Rate{1, time.Hour}})
	kept := l.Join("kept", epoch)
	l.Begin(kept, epoch)
	l.End(kept)
	l.Leave(kept)
	for i := range 5000 {
		l.Leave(l.Join(string(rune('一'+i)), epoch))
	}
	if n := len(l.values); n > 1025 {
		t.Errorf("%d values are remembered", n)
	}
	if l.May(l.Join("kept", epoch), epoch.Add(time.Minute)) {
		t.Error("a value that was forgotten has begun its hour anew")
	}
}

package pull

import (
	cryptorand "crypto/rand"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// tokenText is a token as workers know it.
func tokenText(token int64) string { return strconv.FormatInt(token, 36) }

// parseToken returns 0 for what is no token. No two texts mean one.
func parseToken(text string) int64 {
	if text == "" || text[0] == '0' {
		return 0
	}
	var token uint64
	for i := range len(text) {
		var digit uint64
		switch c := text[i]; {
		case '0' <= c && c <= '9':
			digit = uint64(c - '0')
		case 'a' <= c && c <= 'z':
			digit = uint64(c-'a') + 10
		default:
			return 0
		}
		if token > (math.MaxInt64-digit)/36 {
			return 0
		}
		token = 36*token + digit
	}
	return int64(token)
}

// newTokens returns a source of tokens that cannot be guessed: 63 bits of a cipher's stream.
func newTokens() func() int64 {
	var seed [32]byte
	cryptorand.Read(seed[:])
	stream := rand.NewChaCha8(seed)
	return func() int64 { return int64(stream.Uint64()>>1) | 1 }
}

const (
	memoryTurns = 5 * time.Minute // answers are remembered at least so long
	memorySize  = 200_000         // unless there are more than so many
)

// memory is what was answered to settles, in two generations.
type memory struct {
	young, old map[int64]Answer
	turned     time.Time
}

func (m *memory) add(token int64, a Answer, now time.Time) {
	if m.young == nil || now.Sub(m.turned) >= memoryTurns || len(m.young) >= memorySize {
		m.young, m.old, m.turned = make(map[int64]Answer), m.young, now
	}
	m.young[token] = a
}

// answer is what was said of a token, Unknown if that is not known (any more).
func (m *memory) answer(token int64) Answer {
	if a, ok := m.young[token]; ok {
		return a
	}
	if a, ok := m.old[token]; ok {
		return a
	}
	return Unknown
}

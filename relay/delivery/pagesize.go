package delivery

import "time"

const (
	cutScan    = 1 << 16 // rows that a page looks at after the first one that was cut off
	maxScan    = 1 << 20 // one that would read more has no bound
	cutForgets = time.Minute
)

// pageSize bounds what one page reads. A page that is cut off, by a limit of the server, a pooler or an administrator, is never asked
// for again as it was: it returns half the rows at most, found among half as many. The second bound matters where little matches: a
// page that returns one row in a hundred looks at a hundred times as many as it returns. It is pure.
type pageSize struct {
	rows int // most rows returned
	most int // what rows may become
	scan int // most rows looked at, 0: as many as it takes
	// How long the last page that failed had taken then, and when that was: while the next ones take a good part of that, they
	// do not grow.
	cut   time.Duration
	cutAt time.Time
}

func newPageSize() pageSize { return pageSize{rows: startRows, most: pageRows} }

// shrink takes note of a page that failed after so long. It returns false if no page can be smaller.
func (s *pageSize) shrink(took time.Duration, now time.Time) bool {
	was := *s
	s.cut, s.cutAt = took, now
	s.most = max(min(s.rows, s.most)/2, 1)
	s.rows = s.most
	if s.scan == 0 {
		s.scan = 2 * cutScan
	}
	s.scan = max(s.scan/2, 1)
	return s.rows < was.rows || s.scan != was.scan
}

// grow takes note of a page that was read, and of the number of rows that its bytes suggest for the next.
func (s *pageSize) grow(took time.Duration, now time.Time, fitting int) {
	if s.scan > 0 && (4*took < s.cut || now.Sub(s.cutAt) > cutForgets) {
		s.most = min(2*s.most, pageRows)
		if s.scan *= 2; s.scan > maxScan {
			s.scan = 0
		}
	}
	if s.scan == 0 {
		s.most = pageRows
	}
	s.rows = max(min(fitting, s.most), 1)
}

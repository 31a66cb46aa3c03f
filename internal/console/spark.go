package console

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/internal/human"
)

// spark is a small curve.
type spark struct {
	Points string // of a polyline, in a box of sparkWidth by sparkHeight
	Title  string
}

const sparkWidth, sparkHeight = 90, 18

// newSpark draws samples, the newest at the right edge.
func newSpark(values []int64) (s spark) {
	if len(values) < 2 {
		return s
	}
	most := int64(1)
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	step := float64(sparkWidth-2) / (kept - 1)
	for i, v := range values {
		x := 1 + float64(i+kept-len(values))*step
		y := 1.5 + (sparkHeight-3)*(1-float64(v)/float64(most))
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
	}
	s.Points = strings.TrimSpace(b.String())
	s.Title = fmt.Sprintf("lag while this page was open: from %s to %s, at most %s", human.Number(values[0]), human.Number(values[len(values)-1]), human.Number(most))
	return s
}

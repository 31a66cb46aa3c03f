package measured

import "fmt"

// whole is a number with commas.
func whole(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// three has about three digits.
func three(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return whole(v)
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", v) }

func ms(v float64) string { return three(v) + " ms" }

func mebibytes(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }

// cpu is the seconds per 100,000 of relay, PostgreSQL and destination.
func (r row) cpu() string {
	return three(r.Relay) + ", " + three(r.Postgres) + ", " + three(r.Destination)
}

// share is a figure in percent.
func (r row) share(name string) string { return percent(r.figure(name)) }

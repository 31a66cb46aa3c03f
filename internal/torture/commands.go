package torture

import (
	"bytes"
	"fmt"
	"strings"
)

// command runs the product's command line against the database, as an operator does.
func (w *world) command(args ...string) error {
	out, err := w.relays[0].command(args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("postrider %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

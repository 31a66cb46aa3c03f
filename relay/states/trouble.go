package states

import "strings"

// What a subscription's trouble begins with while nothing gets through to its destination; the reason follows.
const (
	// Down may end by itself.
	Down = "destination is down: "
	// Misconfigured takes somebody who changes something, here or there: the reason says what.
	Misconfigured = "destination is misconfigured: "
)

// IsDown says whether a subscription's trouble is that its destination is down.
func IsDown(trouble string) bool { return strings.HasPrefix(trouble, Down) }

// IsMisconfigured says whether a subscription's trouble is that its destination is set up so that nothing can be delivered.
func IsMisconfigured(trouble string) bool { return strings.HasPrefix(trouble, Misconfigured) }

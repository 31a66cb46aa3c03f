//go:build !race

package torture

// raceEnabled makes the relay be built with the race detector too.
const raceEnabled = false

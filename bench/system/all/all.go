// Package all lists the systems that are measured.
package all

import (
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/bare"
	"github.com/postrider/postrider/bench/system/postrider"
)

// Own returns Postrider in its ways, and the bare pipes.
func Own() []system.System {
	return []system.System{postrider.NewStream(), postrider.NewTimer(), bare.New(), bare.NewRaw(), bare.NewWhole()}
}

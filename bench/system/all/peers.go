package all

import (
	"slices"

	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/graphile"
	"github.com/postrider/postrider/bench/system/pgq"
	"github.com/postrider/postrider/bench/system/river"
	"github.com/postrider/postrider/bench/system/watermill"
)

// Peers returns what others have made, the best configuration of each first.
func Peers() []system.System {
	return slices.Concat(river.Systems(), watermill.Systems(), pgq.Systems(), graphile.Systems())
}

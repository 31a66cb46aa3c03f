package postrider

import (
	"testing"

	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/systemtest"
)

func TestMain(m *testing.M) { systemtest.Main(m) }

func TestAllArrive(t *testing.T) {
	systemtest.AllArrive(t, []system.System{NewStream(), NewTimer()})
}

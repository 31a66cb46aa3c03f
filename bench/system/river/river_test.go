package river_test

import (
	"testing"

	"github.com/postrider/postrider/bench/system/river"
	"github.com/postrider/postrider/bench/system/systemtest"
)

func TestMain(m *testing.M) { systemtest.Main(m) }

func TestAllArrive(t *testing.T) { systemtest.AllArrive(t, river.Systems()) }

package watermill_test

import (
	"testing"

	"github.com/postrider/postrider/bench/system/systemtest"
	"github.com/postrider/postrider/bench/system/watermill"
)

func TestMain(m *testing.M) { systemtest.Main(m) }

func TestAllArrive(t *testing.T) { systemtest.AllArrive(t, watermill.Systems()) }

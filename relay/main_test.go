package relay

import (
	"testing"

	"github.com/postrider/postrider/relay/internal/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }

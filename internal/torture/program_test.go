package torture

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/amazontest"
)

// programs is where the relay's program is kept for all tests.
var programs = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "postrider-torture-bin-") })

// plainProgram and racyProgram build the relay once, without and with the race detector.
var (
	plainProgram = sync.OnceValues(func() (string, error) { return buildOnce("plain", false) })
	racyProgram  = sync.OnceValues(func() (string, error) { return buildOnce("race", true) })
)

func buildOnce(name string, race bool) (string, error) {
	dir, err := programs()
	if err == nil {
		dir = filepath.Join(dir, name)
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return "", err
	}
	return build(context.Background(), dir, race)
}

// program returns the path of the relay's program.
func program(race bool) (string, error) {
	if race {
		return racyProgram()
	}
	return plainProgram()
}

func TestMain(m *testing.M) {
	if err := os.Setenv(secretVariable, amazontest.SecretAccessKey); err != nil { // for sinks that tests open themselves
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, err := programs(); err == nil {
			_ = os.RemoveAll(dir) // it is in the directory for temporary files
		}
		os.Exit(code)
	}))
}

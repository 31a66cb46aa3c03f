//go:build !linux

package pin

import (
	"errors"
	"runtime"
)

var errNoPinning = errors.New("processes are pinned on Linux alone, not on " + runtime.GOOS)

// Allowed returns the processors that this process may use.
func Allowed() ([]int, error) { return nil, errNoPinning }

func on([]int, func() error) error { return errNoPinning }

func move([]int, int) error { return errNoPinning }

package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/postrider/postrider/internal/config"
)

// headroom is for the garbage collector: it runs whenever the heap has doubled, which under load is many times a second while little
// is live. Bytes that nobody touches cost an address, not memory.
const headroom = 32 << 20

// keepWithinContainer makes the process fit into what a container allows, and says what does not.
func keepWithinContainer(s *config.Settings, logger *slog.Logger) {
	container := config.ContainerMemory(os.DirFS("/"))
	if text := s.TooMuchMemory(container); text != "" {
		logger.Warn(text)
	}
	limitMemory(container, logger)
}

// limitMemory makes the garbage collector work harder before the container is full. A GOMEMLIMIT of the user's stands. Where nothing
// limits the process, nothing is gained by it.
func limitMemory(container int64, logger *slog.Logger) {
	if container == 0 || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	// The rest is for what the collector does not see: buffers of sockets, pages of files.
	limit := container - max(container/8, 16<<20)
	debug.SetMemoryLimit(limit + headroom)
	logger.Info("the process keeps within its container's memory", "container", config.ByteSize(container), "soft_limit", config.ByteSize(limit>>20<<20))
}

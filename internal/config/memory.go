package config

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// fittingMemory is the bound for messages in a container of so much memory: messages are in memory several times over, as they were read,
// as they are sent and as garbage; and subscriptions, connections and the runtime take their part.
func fittingMemory(container int64) ByteSize {
	return ByteSize(min(64<<20, max(container/8, 4<<20)))
}

// fitMemory gives the setting another default where the container is small.
func (s *Settings) fitMemory(container int64) {
	if _, set := lookup("POSTRIDER_MEMORY_LIMIT"); !set && container > 0 {
		s.MemoryLimit = min(s.MemoryLimit, fittingMemory(container))
	}
}

// TooMuchMemory says what does not fit.
func (s *Settings) TooMuchMemory(container int64) string {
	if container == 0 || int64(s.MemoryLimit) <= container/4 {
		return ""
	}
	return fmt.Sprintf("POSTRIDER_MEMORY_LIMIT=%s does not fit into this container's memory of %s, and the process may be killed: "+
		"messages are in memory several times over; %s would be right", s.MemoryLimit, ByteSize(container), fittingMemory(container))
}

// ContainerMemory returns what the cgroups of this process allow, 0 if nothing limits it. Version 1 and 2 are asked, and the groups
// around its own; in a container the path may name groups that only the host sees.
func ContainerMemory(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // another operating system
	}
	var least int64
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		var bases, files []string
		switch {
		case !ok:
			continue
		case controllers == "":
			bases, files = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}, []string{"memory.max", "memory.high"}
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			bases, files = []string{"sys/fs/cgroup/memory"}, []string{"memory.limit_in_bytes"}
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			for _, base := range bases {
				for _, file := range files {
					if n := readLimit(root, path.Join(base, group, file)); n > 0 && (least == 0 || n < least) {
						least = n
					}
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// readLimit returns 0 for none: no file, "max", or what version 1 says for unlimited.
func readLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 || n >= 1<<60 {
		return 0
	}
	return n
}

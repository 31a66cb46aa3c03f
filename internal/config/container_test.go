package config

import (
	"testing"
	"testing/fstest"
)

func TestContainerMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none":            {nil, 0},
		"v2":              {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n", "sys/fs/cgroup/memory.high": "max\n"}, 256 << 20},
		"v2, unlimited":   {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"v2, high":        {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "200\n", "sys/fs/cgroup/a/memory.high": "100\n"}, 100},
		"v2, around":      {map[string]string{"proc/self/cgroup": "0::/pod/c\n", "sys/fs/cgroup/pod/c/memory.max": "max\n", "sys/fs/cgroup/pod/memory.max": "300\n"}, 300},
		"v2, host's path": {map[string]string{"proc/self/cgroup": "0::/../../docker/x\n", "sys/fs/cgroup/memory.max": "400\n"}, 400},
		"v1": {map[string]string{"proc/self/cgroup": "5:cpu,memory:/docker/x\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "500\n",
			"sys/fs/cgroup/memory.max": "max"}, 500},
		"v1, own":       {map[string]string{"proc/self/cgroup": "4:memory:/a/b\n", "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "600\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 600},
		"v1, unlimited": {map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"nonsense":      {map[string]string{"proc/self/cgroup": "\n::\nx\n0::\n", "sys/fs/cgroup/memory.max": "-5"}, 0},
	} {
		root := fstest.MapFS{}
		for path, text := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := ContainerMemory(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// What is asked for and does not fit is said; what is not asked for fits.
func TestMemoryLimitFitsTheContainer(t *testing.T) {
	for size, want := range map[int64]ByteSize{0: 64 << 20, 4 << 30: 64 << 20, 512 << 20: 64 << 20, 256 << 20: 32 << 20, 16 << 20: 4 << 20} {
		s := Settings{MemoryLimit: 64 << 20}
		s.fitMemory(size)
		if s.MemoryLimit != want || s.TooMuchMemory(size) != "" {
			t.Errorf("in %d bytes the limit is %s, want %s; %s", size, s.MemoryLimit, want, s.TooMuchMemory(size))
		}
	}
}

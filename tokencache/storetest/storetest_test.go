package storetest_test

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openShared)
	flag.Parse()
	flag.Set("test.parallel", "6") // They mostly wait for other processes.
	os.Exit(m.Run())
}

// openShared opens the Dir at a path, or what "name|path" says.
func openShared(arg string) (tokencache.Store, error) {
	name, path, ok := strings.Cut(arg, "|")
	if !ok {
		return tokencache.OpenDir(arg)
	}
	dir, err := tokencache.OpenDir(path)
	if err != nil {
		return nil, err
	}
	return brokenShared[name].open(dir, path), nil
}

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) tokencache.Store { return new(tokencache.Memory) })
}

// TestDir runs on a file system in memory if there is one: what it checks is the
// code and the kernel's locks, and ten thousand synced writes take some disks minutes.
func TestDir(t *testing.T) {
	t.Parallel()
	const memory = "/dev/shm"
	increments := 10_000
	if _, err := os.Stat(memory); err != nil || runtime.GOOS == "windows" { // Wine has it, but writes wait for readers there
		increments = 1000
	}
	storetest.RunShared(t, func(t *testing.T) string {
		path, err := os.MkdirTemp(memory, "storetest")
		if err != nil {
			return t.TempDir()
		}
		t.Cleanup(func() { os.RemoveAll(path) })
		return path
	}, openShared, storetest.Increments(increments))
}

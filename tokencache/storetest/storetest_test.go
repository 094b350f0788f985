package storetest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openShared)
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
	storetest.Run(t, func(t *testing.T) tokencache.Store { return new(tokencache.Memory) })
}

func TestDir(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, openShared)
}

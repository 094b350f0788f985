package storetest_test

import (
	"os"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openDir)
	os.Exit(m.Run())
}

func openDir(path string) (tokencache.Store, error) { return tokencache.OpenDir(path) }

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) tokencache.Store { return new(tokencache.Memory) })
}

func TestDir(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, openDir)
}

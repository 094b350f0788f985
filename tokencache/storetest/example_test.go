package storetest_test

import (
	"os"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// The test of a Store that lives in one process. Memory stands for yours.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestStore
		storetest.Run(t, func(t *testing.T) tokencache.Store { return new(tokencache.Memory) })
	}
}

// The test of a Store that processes share: the test binary is started again, as such a
// process. Dir stands for your Store.
func ExampleRunShared() {
	open := func(dir string) (tokencache.Store, error) { return tokencache.OpenDir(dir) }
	_ = func(m *testing.M) { // func TestMain
		storetest.Child(open)
		os.Exit(m.Run())
	}
	_ = func(t *testing.T) { // func TestStore
		storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, open)
	}
}

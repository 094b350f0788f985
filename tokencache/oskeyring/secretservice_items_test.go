//go:build linux

package oskeyring_test

import (
	"context"
	"os"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openItems)
	os.Exit(m.Run())
}

func openItems(dir string) (tokencache.Store, error) {
	return oskeyring.Config{App: "test", Dir: dir}.Items(context.Background())
}

func TestItemsIsAStore(t *testing.T) {
	useKeyring(t)
	storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, openItems, storetest.Increments(100))
}

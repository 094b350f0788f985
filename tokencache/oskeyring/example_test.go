package oskeyring_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// The usual place: sealed records in a directory of the user, and their key in the OS
// keyring.
func ExampleOpen() {
	cache, info, err := oskeyring.Open(context.Background(), "my-app")
	if errors.Is(err, tokencache.ErrUnavailable) {
		fmt.Println("no keyring here, or it is locked:", err)
		return
	}
	_, _ = cache, info // transport.SourceConfig takes the cache.
}

// A program that also runs where there is no keyring names what it accepts instead, in
// order. Nothing weaker is ever chosen silently.
func ExampleConfig_Open() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cache, info, err := oskeyring.Config{
		App:    "my-app",
		Dir:    filepath.Join(dir, "logins"), // Default: where the system keeps the state of programs.
		Accept: []oskeyring.KeyChoice{oskeyring.KeyFile("")},
	}.Open(context.Background())
	fmt.Println(cache != nil, info.Key, err)
	// Output: true key file <nil>
}

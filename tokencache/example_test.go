package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/stayauth/stayauth/tokencache"
)

// A directory holds the records, sealed with a key that is kept elsewhere.
func Example() {
	ctx := context.Background()
	home, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(home)

	store, err := tokencache.OpenDir(filepath.Join(home, "logins"))
	if err != nil {
		log.Fatal(err)
	}
	cache, err := tokencache.New(store, tokencache.KeyFile(filepath.Join(home, "key")))
	if err != nil {
		log.Fatal(err)
	}

	key := tokencache.Key{Issuer: "https://login.example.com", ClientID: "my-app"}
	if _, _, err := cache.Load(ctx, key); errors.Is(err, tokencache.ErrNotFound) {
		fmt.Println("not logged in")
	}
	if _, err := cache.Save(ctx, key, &tokencache.Record{RefreshToken: "a secret"}, ""); err != nil {
		log.Fatal(err)
	}
	rec, _, err := cache.Load(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rec.RefreshToken)
	// Output:
	// not logged in
	// [redacted]
}

// A record is replaced only if it is what was read: whoever was faster is not undone.
func ExampleCache_Save() {
	ctx := context.Background()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	key := tokencache.Key{Issuer: "https://login.example.com", ClientID: "my-app"}
	first, err := cache.Save(ctx, key, &tokencache.Record{Generation: 1}, "")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := cache.Save(ctx, key, &tokencache.Record{Generation: 2}, first); err != nil {
		log.Fatal(err)
	}
	_, err = cache.Save(ctx, key, &tokencache.Record{Generation: 2}, first)
	fmt.Println(errors.Is(err, tokencache.ErrConflict))
	// Output: true
}

// A service gets its key from the platform, a systemd credential for instance, and
// can change it: the first is used from now on, and the others still open.
func ExampleKeyBytes() {
	key, err := os.ReadFile(filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), "sealing-key"))
	if err != nil {
		key = make([]byte, 32) // This example has none.
	}
	cache, err := tokencache.New(new(tokencache.Memory), tokencache.KeyBytes(key))
	fmt.Println(cache != nil, err)
	// Output: true <nil>
}

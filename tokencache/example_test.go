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

// The logins of one place move to another, such as from a directory to a database. To repeat it
// does no harm: nothing newer is ever replaced.
func ExampleCache_Import() {
	ctx := context.Background()
	old, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	key := tokencache.Key{Issuer: "https://login.example.com", ClientID: "my-app", Account: "ann"}
	if _, err := old.Save(ctx, key, &tokencache.Record{RefreshToken: "a secret", LoginID: "of ann", Generation: 1}, ""); err != nil {
		log.Fatal(err)
	}

	// The programs that use the old place are stopped: a refresh token may be spent once.
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		imported, kept, err := cache.Import(ctx, old.List(ctx))
		fmt.Println("imported:", imported, "kept:", kept, err)
	}
	// Output:
	// imported: 1 kept: 0 <nil>
	// imported: 0 kept: 1 <nil>
}

// Where there is no keyring, a passphrase can protect the logins. It is asked for once.
func ExamplePassphraseFile() {
	ctx := context.Background()
	home, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(home)
	open := func(passphrase tokencache.Secret) *tokencache.Cache {
		store, err := tokencache.OpenDir(filepath.Join(home, "logins"))
		if err != nil {
			log.Fatal(err)
		}
		ask := func(context.Context) (tokencache.Secret, error) { return passphrase, nil } // from a terminal, for instance
		cache, err := tokencache.New(store, tokencache.PassphraseFile(filepath.Join(home, "sealing-key"), ask))
		if err != nil {
			log.Fatal(err)
		}
		return cache
	}

	key := tokencache.Key{Issuer: "https://login.example.com", ClientID: "my-app"}
	if _, err := open("correct horse").Save(ctx, key, &tokencache.Record{RefreshToken: "a secret"}, ""); err != nil {
		log.Fatal(err)
	}
	_, _, err = open("correct horse").Load(ctx, key)
	fmt.Println(err)
	_, _, err = open("wrong horse").Load(ctx, key) // is never taken for "not logged in"
	fmt.Println(errors.Is(err, tokencache.ErrCorrupt))
	// Output:
	// <nil>
	// true
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

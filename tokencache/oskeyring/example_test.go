package oskeyring_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// The same program on a desktop, under systemd and in a container: each finds a place for the
// key, and says which.
func ExampleKeyChoice() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	os.Setenv("MY_APP_PASSPHRASE", "correct horse battery staple")
	defer os.Unsetenv("MY_APP_PASSPHRASE")
	_, info, err := oskeyring.Config{
		App: "my-app",
		Dir: filepath.Join(dir, "logins"),
		Accept: []oskeyring.KeyChoice{
			// oskeyring.Keyring() comes first where users have desktops.
			oskeyring.Credential("my-app-key"), // systemd: LoadCredential=my-app-key:/path
			oskeyring.PassphraseEnv("MY_APP_PASSPHRASE"),
		},
		Logger: slog.New(slog.DiscardHandler),
	}.Open(context.Background())
	fmt.Println(info.Key, err)
	// Output: passphrase <nil>
}

// Nothing is stored on the disk, for programs that must not: each login is an item of the
// keyring, which is then asked at every refresh.
func ExampleConfig_Items() {
	ctx := context.Background()
	items, err := oskeyring.Config{App: "my-app"}.Items(ctx)
	if problem, ok := errors.AsType[*oskeyring.Error](err); ok {
		fmt.Println("no keyring here:", problem.Problem)
		return
	}
	cache, err := tokencache.New(items, nil) // The keyring seals.
	_, _ = cache, err
}

// Before a user is asked to log in, a program can find out whether the login can be kept. Open
// does so by itself.
func ExampleProbe() {
	err := oskeyring.Probe(context.Background())
	if problem, ok := errors.AsType[*oskeyring.Error](err); ok {
		fmt.Println("what hinders is:", problem.Problem)
	}
}

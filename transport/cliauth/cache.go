package cliauth

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// OpenCache opens the cache in which Open keeps the logins of the program app, for a command that
// tells who is logged in without asking anybody to log in: see login.Choose, and Source.Status of
// package transport. A person at the terminal may be asked to unlock the keyring.
//
// Errors are those of oskeyring.Config.Open.
func OpenCache(ctx context.Context, app string) (*tokencache.Cache, error) {
	cfg := oskeyring.Config{
		App: app, Accept: []oskeyring.KeyChoice{oskeyring.Keyring(), oskeyring.PassphraseEnv(passphraseVariable(app))},
		Logger: slog.New(slog.DiscardHandler), // Who has set the variable knows where the key is.
	}
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		cfg.OnPrompt = func() {
			fmt.Fprintln(os.Stderr, "Your keyring asks for you: answer in the window that opens.")
		}
	}
	cache, _, err := cfg.Open(ctx)
	return cache, err
}

// passphraseVariable returns the environment variable that holds the passphrase of app.
func passphraseVariable(app string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(app)) + "_PASSPHRASE"
}

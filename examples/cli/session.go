package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

// appName names the program in directories and in the keyring.
const appName = "stayauth-cli"

// A session is what a command works with: a provider, a client of it, and the logins.
type session struct {
	*cli
	client
	cache *tokencache.Cache
	place oskeyring.Info
}

// open finds the provider, and opens the logins. A locked keyring is noticed before
// anybody is asked to log in.
func (c *cli) open(ctx context.Context) (*session, error) {
	if err := c.notGiven(); err != nil {
		return nil, err
	}
	s := &session{cli: c}
	var err error
	if s.client, err = c.client(ctx, c.profile); err != nil {
		return nil, err
	}
	return s, s.openCache(ctx)
}

func (s *session) openCache(ctx context.Context) (err error) {
	s.cache, s.place, err = s.storage().Open(ctx)
	if errors.Is(err, tokencache.ErrCorrupt) {
		err = fmt.Errorf("%w\nTo start over, use 'stayauth login -reset', or 'stayauth logout -local -all': both remove all logins here", err)
	}
	if errors.Is(err, tokencache.ErrUnavailable) && s.store != s.formerStore {
		err = fmt.Errorf("%w\nThe logins here were made with -store %s: use that, or remove them here with 'stayauth logout -local -all'", err, s.formerStore)
	}
	if e, ok := errors.AsType[*oskeyring.Error](err); ok {
		switch e.Problem {
		case oskeyring.NoBus, oskeyring.NoService, oskeyring.NoCollection, oskeyring.NoSession:
			err = fmt.Errorf("%w\nThe other places for the key are -store passphrase and -store file", err)
		}
	}
	return err
}

// storage says where logins are kept.
func (s *cli) storage() oskeyring.Config {
	conf := oskeyring.Config{App: appName, Logger: s.logger()}
	if s.dir != "" {
		conf.Dir = filepath.Join(s.dir, "logins")
	}
	switch s.store {
	case "keyring":
		conf.Accept = []oskeyring.KeyChoice{oskeyring.Keyring()}
	case "file":
		conf.Accept = []oskeyring.KeyChoice{oskeyring.KeyFile("")}
	case "passphrase":
		conf.Accept = []oskeyring.KeyChoice{oskeyring.Passphrase(passphrase)}
	}
	if isTerminal(s.stderr) {
		conf.OnPrompt = func() { s.say("Your keyring asks for you: answer in the window that opens.\n") }
	}
	return conf
}

func passphrase(context.Context) (tokencache.Secret, error) {
	if p := os.Getenv(passphraseVar); p != "" {
		return tokencache.Secret(p), nil
	}
	path := os.Getenv(passphraseFileVar)
	if path == "" {
		return "", usagef("set %s or %s", passphraseVar, passphraseFileVar)
	}
	b, err := os.ReadFile(path)
	return tokencache.Secret(strings.TrimRight(string(b), "\r\n")), err
}

// account returns the account to use: the one that is named, or the one in use, or
// the only one.
func (s *session) account(ctx context.Context) (login.Account, error) {
	like := s.refresher.Identity().Key
	if !s.Robot { // Its tokens are for what it asked for, those of a user for what the user agreed to.
		like.Audience = ""
	}
	accounts, listErr := s.list(ctx, like)
	a, err := login.Choose(accounts, s.Account)
	switch {
	case err != nil && listErr != nil:
		err = listErr // It may be among those that cannot be read.
	case err != nil && s.Account != "":
		err = s.elsewhere(ctx, err)
	}
	return a, err
}

// source returns the Source of a login. It is to be closed with closeSource.
func (s *session) source(key tokencache.Key) (*transport.Source, error) {
	return transport.NewSource(transport.SourceConfig{
		Cache: s.cache, Refresher: s.target(), Key: key, Lead: s.provider.Lead, Logger: s.logger(),
		OnEvent: s.onEvent,
	})
}

// onEvent tells the user what he can do something about while it lasts.
func (c *cli) onEvent(_ context.Context, e transport.Event) {
	switch e.Type {
	case transport.EventWaiting:
		c.say("Waiting for whoever works on this login: %v\n", e.Err)
	case transport.EventUnsaved:
		if c.Robot {
			c.say("%v\n", e.Err)
			break
		}
		c.say("%v\nTrying again, for %d s when the work is done: make room for your login now, or you will have to log in again.\n", e.Err, int(closeTimeout.Seconds()))
	case transport.EventEnding:
		c.say("Your login ends on %s: log in again before that.\n", e.Ends.Local().Format("Monday, 2 January 15:04"))
	case transport.EventSaved:
		c.say("Your login is saved.\n")
	}
}

// logger logs to the terminal, if that is asked for. What matters is in the errors.
func (c *cli) logger() *slog.Logger {
	if !c.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
